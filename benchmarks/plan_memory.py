"""Memory of planning and running over a parquet of ten million rows: python -m benchmarks.plan_memory

Writes the list into a temporary folder, then runs the program over it, each time in processes of their own:

    plan     --plan-only: the fingerprint of all bytes, and the count of rows from the footer
    start    two shards from the middle of the list, none before them being read
    dedup    the same with --dedup-urls: one pass over all URLs first
    run      all rows, with two worker processes and output_format dummy

The URLs are refused for their scheme, so that what is measured is what every row costs without the network. The memory
is the highest sum of what all processes of the run hold (RSS, pages that they share counted for each), looked at every
tenth of a second. Exit code 1 where it is over --limit megabytes, or a row is not accounted for.
"""

import argparse
import contextlib
import ctypes
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.process_tree import PR_SET_CHILD_SUBREAPER

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "create" / "create_webdataset.py"
BATCH_ROWS = 200_000
INTERVAL = 0.1


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run of the program."""

    seconds: float
    cpu: float
    """Seconds of CPU of all its processes."""
    peak: float
    """Megabytes of all its processes."""
    rows: int


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--files", type=int, default=1, help="name the list so often, for so many times the rows")
    parser.add_argument("--group-rows", type=int, default=1 << 20, help="rows of a row group")
    parser.add_argument("--limit", type=int, default=1000, help="megabytes")
    parser.add_argument("--only", nargs="*", default=["plan", "start", "dedup", "run"])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-") as folder:
        source = write_lists(Path(folder, "lists"), options)
        found = {name: measured(source, Path(folder, name), options.rows, name) for name in options.only}
    expected = {"start": 20_000, "dedup": 20_000}
    for name, one in found.items():
        print(f"{name:6} {one.rows:>12,} rows {one.seconds:8.1f} s, {one.cpu:8.1f} s of CPU {one.peak:8.0f} MB")
    if options.json:
        print(json.dumps({name: vars(one) for name, one in found.items()}))
    total = options.rows * options.files
    complete = all(one.rows == expected.get(name, total) for name, one in found.items())
    return 0 if complete and all(one.peak <= options.limit for one in found.values()) else 1


def write_lists(folder: Path, options: argparse.Namespace) -> Path:
    """A parquet with a caption and a hash of every row, under as many names as are wanted."""
    folder.mkdir()
    first = folder / "00000.parquet"
    schema = pa.schema([("url", pa.string()), ("caption", pa.string()), ("md5", pa.string())])
    held: list[pa.Table] = []
    with pq.ParquetWriter(first, schema, compression="zstd") as writer:
        for start in range(0, options.rows, BATCH_ROWS):
            held.append(rows_from(start, min(options.rows, start + BATCH_ROWS), schema))
            if sum(map(len, held)) >= options.group_rows or start + BATCH_ROWS >= options.rows:
                writer.write_table(pa.concat_tables(held), row_group_size=options.group_rows)
                held = []
    for number in range(1, options.files):
        (folder / f"{number:05d}.parquet").symlink_to(first)
    print(f"list: {options.rows:,} rows, {first.stat().st_size / 1e6:,.0f} MB, {options.files} times", file=sys.stderr)
    return folder


def rows_from(start: int, end: int, schema: pa.Schema) -> pa.Table:
    """Rows that do not compress away; one URL in a hundred is that of a row before."""
    hashes = [hashlib.md5(str(row - row % 100 // 99).encode()).hexdigest() for row in range(start, end)]
    urls = [f"ftp://example.org/{text}/{text[:8]}.jpg" for text in hashes]
    return pa.table([urls, [f"a picture of {text} in its place" for text in hashes], hashes], schema=schema)


def measured(source: Path, output: Path, rows: int, name: str) -> Measured:
    """Run the program and watch its processes."""
    middle = rows // 2 // 10_000
    chosen = {
        "plan": ["--plan-only"],
        "start": ["--shards", f"{middle}:{middle + 2}"],
        "dedup": ["--shards", f"{middle}:{middle + 2}", "--dedup-urls"],
        "run": ["--engine", "local", "--num-workers", "2"],
    }
    command = [sys.executable, str(PROGRAM), "--source", str(source), "--output", str(output), "--json"]
    command += ["--caption-col", "caption", "--save-additional-columns", "md5", "--output-format", "dummy"]
    started, before, peak = time.monotonic(), cpu_of_ended(), 0
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen([*command, *chosen[name]], stdout=told, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, sum(map(resident, tree(process.pid))))
            time.sleep(INTERVAL)
        told.seek(0)
        lines = told.read().splitlines()
    if process.returncode:
        sys.exit(f"{name} failed: {lines[-10:]}")
    facts = json.loads(lines[-1])
    wait_for_orphans()
    cpu = cpu_of_ended() - before
    return Measured(seconds=time.monotonic() - started, cpu=cpu, peak=peak / 1e6, rows=facts["rows"])


def wait_for_orphans() -> None:
    """Wait for what the program has started and not waited for: this process has adopted it."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def cpu_of_ended() -> float:
    """Seconds of CPU that ended child processes, and theirs, have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def tree(root: int) -> set[int]:
    """A process and all its descendants that live now."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended meanwhile
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found, size = {root}, 0
    while len(found) > size:
        size = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found


def resident(pid: int) -> int:
    """Bytes that a process holds in memory; none when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except (OSError, IndexError):
        return 0


if __name__ == "__main__":
    sys.exit(main())
