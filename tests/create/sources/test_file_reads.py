"""Files of a source are read side by side."""

import asyncio
import threading

from tarloom.create.sources.file_reads import FileReads

AT_ONCE = 64


def test_so_many_files_are_read_at_once_however_few_cpus_there_are():
    meeting = threading.Barrier(AT_ONCE)  # nobody leaves it before so many have come

    async def all_read() -> list[int]:
        reads = FileReads(AT_ONCE, 100, room=_at_once)
        try:
            return await asyncio.gather(*(reads.run(lambda: meeting.wait(20)) for _ in range(AT_ONCE)))
        finally:
            reads.close()

    assert sorted(asyncio.run(all_read())) == list(range(AT_ONCE))


async def _at_once() -> None:
    """There is room."""
