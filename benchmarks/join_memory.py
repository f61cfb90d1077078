"""Memory of joining a million prompts with two tables of details: python -m benchmarks.join_memory

Writes tables into a temporary folder, then makes the rows of shards of them, each time in processes of their own (Ray's
among them):

    small    details of a thousand rows: they are sent to where the prompts are
    large    details of as many rows as there are prompts: Ray Data's join

One row in a hundred finds nothing in the first table. The memory is the highest sum over all processes (PSS: pages that
several share are counted once), looked at every tenth of a second. Exit code 1 where it is over --limit megabytes, or a
row is lost, out of order, or joined with another's details.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]

ROWS_PER_SHARD = 10_000
INTERVAL = 0.1
MAKE = """
import sys
from tarloom.format.storage import open_storage
from tarloom.generate.tables.config import TableConfig
from tarloom.generate.tables.prompts import PromptTables
folder = sys.argv[1]
tables = PromptTables(
    TableConfig(
        prompts=f"{folder}/prompts.parquet",
        details=(f"{folder}/animals.parquet:animal", f"{folder}/places.parquet:place=name"),
        derive=("size = legs * 2 + n % 3",),
        template="a {colour} {animal} with {legs} legs in {weather} {place}",
    )
)
tables.check()
print(tables.write(open_storage(f"{folder}/made"), int(sys.argv[2]), 5)[0])
"""


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--limit", type=int, default=2000, help="megabytes")
    parser.add_argument("--only", nargs="*", default=["small", "large"])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    found = {}
    for name in options.only:
        with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-") as folder:
            details = 1000 if name == "small" else options.rows
            write_tables(Path(folder), options.rows, details)
            found[name] = measured(Path(folder), options.rows, details)
        peak, seconds, right = found[name]
        print(f"{name:6} {options.rows:>12,} rows {seconds:8.1f} s {peak:8.0f} MB", "" if right else "WRONG ROWS")
    if options.json:
        print(json.dumps({name: {"peak": peak, "seconds": seconds} for name, (peak, seconds, _) in found.items()}))
    return 0 if all(right and peak <= options.limit for peak, _, right in found.values()) else 1


def write_tables(folder: Path, rows: int, details: int) -> None:
    """Prompts that name an animal and a place, and what is to be known of these, in an order of their own."""
    chance = np.random.default_rng(0)
    numbers = np.arange(rows)
    animals = np.where(numbers % 100 == 99, details, 0) + numbers * 7919 % details
    prompts = {"n": numbers, "animal": animals, "place": [f"place {place}" for place in numbers * 104729 % details]}
    pq.write_table(pa.table(prompts), folder / "prompts.parquet")
    order = chance.permutation(details)
    colours = [f"colour {number} of its own" for number in order]
    known = {"animal": [str(number) for number in order], "legs": order + 1, "colour": colours}
    pq.write_table(pa.table(known), folder / "animals.parquet")
    order = chance.permutation(details)
    places = {"name": [f"place {number}" for number in order], "weather": [f"weather {number}" for number in order]}
    pq.write_table(pa.table(places), folder / "places.parquet")


def measured(folder: Path, rows: int, details: int) -> tuple[float, float, bool]:
    """Megabytes, seconds, and whether the rows are as they should be."""
    started = time.monotonic()
    command = [sys.executable, "-c", MAKE, str(folder), str(ROWS_PER_SHARD)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    peaks = [0]
    ended = threading.Event()
    watcher = threading.Thread(target=watch, args=(process.pid, peaks, ended))
    watcher.start()
    told = process.communicate()[0]
    seconds = time.monotonic() - started
    ended.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"failed: {told}")
    return peaks[0] / 1e6, seconds, all_right(folder / "made" / "_tarloom" / "rows", rows, details)


def watch(root: int, peaks: list[int], ended: threading.Event) -> None:
    """The highest sum so far, as the first of `peaks`."""
    while not ended.wait(INTERVAL):
        held = 0
        with suppress(psutil.Error):
            family = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
            for process in family:
                with suppress(psutil.Error):
                    held += process.memory_full_info().pss
        peaks[0] = max(peaks[0], held)


def all_right(folder: Path, rows: int, details: int) -> bool:
    """Whether every row is there, in order, with its own details."""
    first = 0
    for file in sorted(folder.iterdir()):
        for row in pq.read_table(file).to_pylist():
            if not is_right(row, first, details):
                return False
            first += 1
    return first == rows


def is_right(row: dict[str, Any], number: int, details: int) -> bool:
    """Whether a row is the one of this number, with its own details."""
    animal, place = number * 7919 % details, number * 104729 % details
    if row["__key__"] != f"{number:09d}" or row["n"] != number or row["weather"] != f"weather {place}":
        return False
    if number % 100 == 99:
        return row["__error__"] == f"no_match: animals.parquet has no row with animal = {animal + details}"
    told = f"a colour {animal} of its own {animal} with {animal + 1} legs in weather {place} place {place}"
    return row["__error__"] is None and row["prompt"] == told and row["size"] == (animal + 1) * 2 + number % 3


if __name__ == "__main__":
    sys.exit(main())
