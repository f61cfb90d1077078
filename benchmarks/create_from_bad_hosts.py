"""Creation from a list where nearly all hosts are bad: does every row get the right name, and at what cost?

    python -m benchmarks.create_from_bad_hosts                     100,000 rows, two workers
    python -m benchmarks.create_from_bad_hosts --rows 5000 --json

A server in a process of its own, on a million addresses of loopback, misbehaves in every way that tests/create/
hostile_answers.py knows: floods, bombs of 10 GB, resets, loops, wrong lengths, dripping headers, mute ports. Each has
one error that its rows must get. Rows that got another are marked; then come time and memory beside what the options
promise. Exit code 1 where a row is wrong or lost, or a bound is broken.
"""

import argparse
import json
import math
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.memory import Watched, watch
from tests.create.web.hostile_server import HostileServer

ROOT = Path(__file__).resolve().parents[1]
WORKER_BYTES = 500 << 20
"""The bound for a worker's memory."""
SECONDS_PER_ROW = 0.005
"""Of CPU, at most, for what a worker does with a row."""
START_SECONDS = 20
Names = Counter[tuple[str | None, str | None]]
"""Rows by expected and actual error."""


def main() -> int:
    """Measure, print, and return the exit code."""
    options = _parse()
    with tempfile.TemporaryDirectory(prefix="tarloom-bad-hosts-") as folder, HostileServer() as server:
        rows = list(server.rows(options.rows))
        source = Path(folder, "urls.txt")
        source.write_text("".join(f"{url}\n" for url, _ in rows))
        watched = watch(_command(source, Path(folder, "shards"), options), folder=ROOT)
        if watched.exit_code:
            sys.exit(f"the run failed: {watched.errors[-2000:]}")
        names = _names(Path(folder, "shards"), [expected for _, expected in rows])
    wrong = {pair: count for pair, count in names.items() if pair[0] != pair[1]}
    longest = _longest(options)
    largest = max(watched.peaks.values())
    _print(names, watched, longest)
    if options.json:
        figures = {"rows": options.rows, "wrong": sum(wrong.values()), "seconds": watched.seconds}
        print(json.dumps(figures | {"bound_seconds": longest, "worker_bytes": largest}))
    return int(bool(wrong) or names.total() != options.rows or watched.seconds > longest or largest > WORKER_BYTES)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument("--thread-count", type=int, default=256)
    parser.add_argument("--timeout", type=float, default=10)
    parser.add_argument("--max-redirects", type=int, default=3)
    parser.add_argument("--retries", type=int, default=1)
    parser.add_argument("--max-wait", type=float, default=1)
    parser.add_argument("--max-bytes", type=int, default=4_000_000)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def _command(source: Path, output: Path, options: argparse.Namespace) -> list[str]:
    """The program as anyone would run it."""
    same = ("num_workers", "thread_count", "timeout", "retries", "max_wait", "max_bytes", "max_redirects")
    words = [word for name in same for word in (f"--{name}", str(getattr(options, name)))]
    program = [
        sys.executable,
        str(ROOT / "create" / "create_webdataset.py"),
        "--allow-private",
        "127.0.0.0/8",
        "--json",
    ]
    return [*program, "--source", str(source), "--output", str(output), *words]


def _names(shards: Path, expected: list[str | None]) -> Names:
    """Rows are in input order."""
    columns = [pq.read_table(path, columns=["error"])["error"].to_pylist() for path in sorted(shards.glob("*.parquet"))]
    return Counter(zip(expected, (name for column in columns for name in column), strict=True))


def _longest(options: argparse.Namespace) -> float:
    """Seconds that the options allow, if every row failed as slowly as it can: all tries time out, pauses are longest.

    A host takes a fraction of the connections, but half of the rows have hosts of their own.
    """
    one = (options.retries + 1) * options.timeout + options.retries * options.max_wait
    turns = math.ceil(options.rows / (options.num_workers * options.thread_count))
    return START_SECONDS + turns * one + options.rows * SECONDS_PER_ROW


def _print(names: Names, watched: Watched, longest: float) -> None:
    print(f"{'expected':26}{'actual':26}{'rows':>8}")
    for (expected, actual), count in sorted(names.items(), key=str):
        mark = "" if expected == actual else "   <- wrong"
        print(f"{expected or 'success':26}{actual or 'success':26}{count:8,}{mark}")
    largest = max(watched.peaks.values())
    print(f"{names.total():,} rows in {watched.seconds:.0f} s; the options allow {longest:.0f} s")
    print(f"{names.total() / watched.seconds:,.0f} rows/s, {1000 * watched.cpu / names.total():.2f} ms of CPU a row")
    print(f"the largest process held {largest >> 20} MB of {WORKER_BYTES >> 20} MB, all {watched.peak_of_all >> 20} MB")


if __name__ == "__main__":
    sys.exit(main())
