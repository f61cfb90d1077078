"""Files of a source, read side by side in threads."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tarloom.errors import FetchError, UnreadableFile
from tarloom.format.storage import Storage

Done = TypeVar("Done")


class FileReads:
    """Reads so many files at once, in threads of its own: asyncio's own are a few more than there are CPUs."""

    def __init__(self, at_once: int, max_bytes: int, room: Callable[[], Awaitable[object]]) -> None:
        """room: awaited before a file is handed on and the next one read."""
        self._max_bytes = max_bytes
        self._room = room
        self._slots = asyncio.Semaphore(at_once)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="read")

    def close(self) -> None:
        """Let go of the threads; reads that are under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[[], Done]) -> Done:
        """Do something that reads files, in a thread."""
        async with self._slots:
            done = await asyncio.get_running_loop().run_in_executor(self._threads, work)
            await self._room()
        return done

    def read(self, storage: Storage, name: str) -> bytes:
        """The whole file. Raises FetchError unreadable or too_large.

        Where the whole place cannot be read, no row is to blame: StorageError ends the shard, which is tried again.
        """
        try:
            data = storage.read_at_most(name, self._max_bytes)
        except UnreadableFile as error:
            raise FetchError("unreadable", "the file cannot be read") from error
        if data is None:
            raise FetchError("too_large", f"the file is longer than {self._max_bytes} bytes")
        return data
