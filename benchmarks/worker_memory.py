"""The memory of one worker with a thousand connections, all of them in the middle of a body.

    python -m benchmarks.worker_memory                      3000 rows, a minute or two
    python -m benchmarks.worker_memory --json

A server in a process of its own sends pictures of 100 KB to 20 MB (small ones behind which long metadata lies, so that
it is the bytes that count, not the pixels), slowly: each body takes --seconds at least. A thousand are under way at any
time. One worker fetches and packs them; what its process holds is printed over time. Exit code 1 where it held more
than 500 MB or lost a row.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from benchmarks.memory import Watched, watch

ROOT = Path(__file__).resolve().parents[1]
WORKER_BYTES = 500 << 20
SIZES = tuple(1000 * size for size in (100, 200, 300, 500, 800, 100, 1200, 300, 3000, 150, 20_000))
"""Bytes of the bodies, in turn: 2.4 MB on average."""
PARTS = 20
"""Each body comes in so many parts, one after another at equal times."""


class SlowServer:
    """Sends /NUMBER slowly, in a process of its own, for as long as a `with` block lasts."""

    def __init__(self, seconds: float) -> None:
        self._command = [sys.executable, "-m", "benchmarks.worker_memory", "--serve", "--seconds", str(seconds)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{self._process.stdout.readline().strip()}"
        return self

    def __exit__(self, *failure: object) -> None:
        self._process.communicate("")  # the end of its input is its end


def main() -> int:
    """Measure, print, and return the exit code."""
    options = _parse()
    if options.serve:
        asyncio.run(_serve(options.seconds))
        return 0
    with tempfile.TemporaryDirectory(prefix="tarloom-memory-") as folder, SlowServer(options.seconds) as server:
        source = Path(folder, "urls.txt")
        source.write_text("".join(f"{server.url}/{number}\n" for number in range(options.rows)))
        watched = watch(_command(source, Path(folder, "shards"), options), folder=ROOT)
    if watched.exit_code:
        sys.exit(f"the run failed: {watched.errors[-2000:]}")
    _print(watched, options)
    largest = max(watched.peaks.values())
    if options.json:
        figures = {"rows": options.rows, "seconds": watched.seconds, "worker_bytes": largest}
        print(json.dumps(figures | {"successes": watched.summary["successes"]}))
    return int(largest > WORKER_BYTES or watched.summary["successes"] != options.rows)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--thread-count", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=4, help="that a body takes")
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _command(source: Path, output: Path, options: argparse.Namespace) -> list[str]:
    """The program as anyone would run it, with one worker."""
    words = ("--source", str(source), "--output", str(output), "--timeout", str(options.timeout), "--retries", "0")
    hosts = ("--allow-private", "127.0.0.1", "--host-connections", str(options.thread_count))
    many = ("--thread-count", str(options.thread_count), "--json")
    return [sys.executable, str(ROOT / "create" / "create_webdataset.py"), *words, *hosts, *many]


def _print(watched: Watched, options: argparse.Namespace) -> None:
    step = max(1, len(watched.over_time) // 20)
    for seconds, held in watched.over_time[::step]:
        print(f"{seconds:6.1f} s {held >> 20:5} MB")
    largest = max(watched.peaks.values())
    rows, errors = watched.summary["successes"], watched.summary["failed_by_error"]
    print(f"{rows:,} of {options.rows:,} rows in {watched.seconds:.0f} s; errors: {errors}")
    print(f"the worker held {largest >> 20} MB of {WORKER_BYTES >> 20} MB at most")


async def _serve(seconds: float) -> None:
    """Until standard input ends."""
    picture = min((ROOT / "source_data" / "pictures").glob("*.jpg")).read_bytes()
    bodies = dict(zip(range(len(SIZES)), (_with_metadata(picture, size) for size in SIZES), strict=True))

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                body = bodies[int(request.split(b" ", 2)[1][1:]) % len(SIZES)]
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                for part in range(PARTS):
                    writer.write(memoryview(body)[part * len(body) // PARTS : (part + 1) * len(body) // PARTS])
                    await writer.drain()
                    await asyncio.sleep(seconds / PARTS)
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # thousands of conversations are not worth ending one by one


def _with_metadata(picture: bytes, size: int) -> bytes:
    """The JPEG with comments between its start and its first table, so that it has so many bytes."""
    comments = []
    for left in range(size - len(picture), 0, -65_000):
        length = min(left, 65_000)
        comments.append(b"\xff\xfe" + (length + 2).to_bytes(2, "big") + bytes(length))
    return picture[:2] + b"".join(comments) + picture[2:]


if __name__ == "__main__":
    sys.exit(main())
