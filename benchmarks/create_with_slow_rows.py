"""What rows that answer late cost a run: 1 in 100 waits some seconds for its answer, as hosts of the web do.

    python -m benchmarks.create_with_slow_rows             3000 pictures, 3 rounds, about three minutes

nginx serves photo-like JPEGs on loopback; a server in a process of its own serves the slow ones. Each round runs our
program and img2dataset 1.47 with two processes over the same pictures, with and without slow ones among them. Printed
are pictures a second (medians), and how much of its speed a side keeps. A worker that waits for the last row of each
shard loses the seconds that a slow row takes, shard for shard.
"""

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.creation_sides import commands, peer_program
from benchmarks.photos import make_photos
from benchmarks.process_tree import run_tree
from benchmarks.web_server import WebServer

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = {"tarloom": "--output", "img2dataset": "--output_folder"}


def main() -> None:
    """Measure and print."""
    options = _parse()
    if options.serve:
        asyncio.run(_serve(options.photos, options.seconds))
        return
    peer, photos = peer_program(), make_photos(options.photos, options.count)
    found: dict[str, list[float]] = defaultdict(list)
    with WebServer(options.photos) as quick, _slow_server(options) as late, tempfile.TemporaryDirectory() as folder:
        lists = {"slow": Path(folder, "slow.txt"), "none": Path(folder, "none.txt")}
        lists["slow"].write_text("".join(_urls(photos, quick.url, late, every=options.every)))
        lists["none"].write_text("".join(_urls(photos, quick.url, late, every=len(photos) + 1)))
        for _ in range(options.rounds):
            for name, urls in lists.items():
                for side, command in commands(peer, urls, options).items():
                    found[f"{side}, {name}"].append(len(photos) / _seconds(side, command, Path(folder)))
    speeds = {run: statistics.median(each) for run, each in found.items()}
    print(f"{len(photos)} pictures, shards of {options.rows}; 1 row in {options.every} takes {options.seconds:g} s")
    for side in OUTPUT:
        slow, none = speeds[f"{side}, slow"], speeds[f"{side}, none"]
        print(f"{side:12} {slow:6.0f} pictures/s, without slow rows {none:6.0f}: keeps {slow / none:.0%}")
    print(f"ours is {speeds['tarloom, slow'] / speeds['img2dataset, slow']:.1f} times as fast with slow rows")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3000, help="pictures (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--photos", type=Path, default=Path.home() / ".cache/tarloom/photos", help="made, and kept")
    parser.add_argument("--threads", type=int, default=64, help="downloads at once per process, of both sides")
    parser.add_argument("--rows", type=int, default=500, help="per shard, of both sides")
    parser.add_argument("--every", type=int, default=100, help="one row in so many is slow (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="that it takes (default: %(default)s)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _urls(photos: Sequence[Path], quick: str, late: str, *, every: int) -> Iterator[str]:
    """The last of so many is a slow one."""
    for number, photo in enumerate(photos, 1):
        yield f"{quick if number % every else late}/{photo.name}\n"


def _seconds(side: str, command: list[str], folder: Path) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as output:
        cost = run_tree([*command, f"{OUTPUT[side]}={output}/shards"], folder=ROOT)
    if cost.exit_code:
        sys.exit(f"{side} failed with exit code {cost.exit_code}:\n{cost.output}")
    return cost.wall


@contextlib.contextmanager
def _slow_server(options: argparse.Namespace) -> Iterator[str]:
    module = "benchmarks.create_with_slow_rows"
    command = [sys.executable, "-m", module, "--serve", f"--photos={options.photos}", f"--seconds={options.seconds}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


async def _serve(photos: Path, seconds: float) -> None:
    server = await asyncio.start_server(partial(_answer, photos, seconds), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _answer(photos: Path, seconds: float, asked: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            request = await asked.readuntil(b"\r\n\r\n")
            await asyncio.sleep(seconds)
            data = (photos / request.split()[1].decode().strip("/")).read_bytes()
            answer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
            answer.write(data)
            await answer.drain()
    answer.close()


if __name__ == "__main__":
    main()
