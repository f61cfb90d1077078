"""What it costs to open a dataset of very many shards: python -m benchmarks.open_many_shards --shards 100000

Makes a folder with sparse tars of 640 MB, an index of each, and empty files in the place of metadata, stats and two
sidecars (those of the first shard are real). Then opens it in fresh processes: without a catalogue, when every index is
looked at, once; with one, as every later opening; and where shards have changed since.

    open     the listing
    len      the catalogue, or the indexes
    columns  a footer of the metadata and of each sidecar
    pieces   planning pieces of 64 MiB, one at a time
    key      the sample of one key
    pickle   the dataset as it would travel; workers get pieces, which are given in bytes

The memory is the peak of the process, less what it had after its imports. Exit code 1 where that is over --limit.
"""

import argparse
import json
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

TAR_BYTES = 640 << 20
ROWS = 20
PLACEHOLDER = "@@@@@@@@"
"""Stands for the shard's number in the bytes of an index."""
CHANGED = 100


def main() -> int:
    """Make the folder, measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--data", help="where the folder is made and kept (default: a temporary one)")
    parser.add_argument("--limit", type=int, default=500, help="megabytes")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(list(measure(options.measure))))
        return 0
    with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-") as temporary:
        folder = Path(options.data or temporary, "shards")
        if not folder.exists():
            make(folder, options.shards)
        (folder / "_tarloom" / "catalog.parquet").unlink(missing_ok=True)
        peaks = [report("no catalogue", folder), report("catalogue", folder)]
        for number in range(CHANGED):
            (folder / f"{number:08d}.tar").touch()
        peaks.append(report(f"{CHANGED} shards changed", folder))
    return 0 if max(peaks) <= options.limit else 1


def make(folder: Path, shards: int) -> None:
    """Files with the names, sizes and indexes of a dataset, and hardly a byte on the disk."""
    started = time.monotonic()
    (folder / "_tarloom" / "index").mkdir(parents=True)
    (folder / "_tarloom" / "plan.json").write_text("{}")
    template = index_bytes()
    for number in range(shards):
        shard = f"{number:08d}"
        with open(folder / f"{shard}.tar", "wb") as tar:
            tar.truncate(TAR_BYTES)
        for suffix in ("_stats.json", ".parquet", ".caption.parquet", ".clip.parquet"):
            open(folder / f"{shard}{suffix}", "wb").close()
        index = template.replace(PLACEHOLDER.encode(), shard.encode())
        (folder / "_tarloom" / "index" / f"{shard}.parquet").write_bytes(index)
    columns = {"key": ["0"], "status": ["success"], "width": [1]}
    pq.write_table(pa.table(columns), folder / f"{0:08d}.parquet")
    for stage in ("caption", "clip"):
        table = pa.table({"__key__": ["0"], "text": ["a"], "status": ["success"], "error": [None]})
        pq.write_table(table, folder / f"{0:08d}.{stage}.parquet")
    print(f"{shards:,} shards made in {time.monotonic() - started:.0f} s", file=sys.stderr)


def index_bytes() -> bytes:
    """An index as it is in format/index.py, plain enough for a shard's number to be put into its bytes."""
    size = TAR_BYTES // ROWS // 512 * 512
    offsets, sizes = np.arange(ROWS) * size + 512, np.full(ROWS, size - 1024)
    columns: dict[str, object] = {"__key__": [f"{PLACEHOLDER}{row:04d}" for row in range(ROWS)]}
    columns |= {"jpg:offset": offsets, "jpg:size": sizes, "txt:offset": offsets + size - 512, "txt:size": sizes * 0}
    footer = {
        "tarloom.format_version": "1",
        "tarloom.shard": PLACEHOLDER,
        "tarloom.tar_size": str(TAR_BYTES),
        "tarloom.identity": f"sha256:{PLACEHOLDER * 8}",
        "tarloom.etag": "",
        "tarloom.rows": str(ROWS),
    }
    file, table = BytesIO(), pa.table(columns)
    plain: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    with pq.ParquetWriter(file, table.schema, store_schema=False, **plain) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(footer)
    return file.getvalue()


def report(name: str, folder: Path) -> float:
    """Measure in a fresh process and print. Returns megabytes."""
    command = [sys.executable, "-m", "benchmarks.open_many_shards", "--measure", str(folder)]
    steps = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for step, seconds, cpu, megabytes, found in steps:
        print(f"{name:20} {step:8} {seconds:7.2f} s, {cpu:7.2f} s of CPU, at most {megabytes:4.0f} MB: {found}")
    return max(megabytes for _, _, _, megabytes, _ in steps)


def measure(folder: str) -> Iterator[tuple[str, float, float, float, str]]:
    """Step, seconds, seconds of CPU, megabytes of memory so far, and what came out."""
    import tarloom
    from tarloom.read.dataset import open_dataset

    before = peak()

    def step(name: str, act: Callable[[], str]) -> tuple[str, float, float, float, str]:
        started, cpu = time.monotonic(), time.process_time()
        found = act()
        return name, time.monotonic() - started, time.process_time() - cpu, peak() - before, found

    opened: list[tarloom.Dataset] = []

    def open_it() -> str:
        opened.append(open_dataset(folder))
        return f"{len(opened[0].shards):,} shards"

    yield step("open", open_it)
    dataset = opened[0]
    yield step("len", lambda: f"{len(dataset):,} samples")
    yield step("columns", lambda: f"{len(dataset.columns)} columns")
    yield step("pieces", lambda: f"{sum(1 for _ in dataset.plan()):,} pieces of {piece_bytes(dataset)} bytes")
    key = f"{len(dataset.shards) // 2:08d}0007"
    yield step("key", lambda: "found" if key in dataset else "not found")
    yield step("pickle", lambda: f"{len(pickle.dumps(dataset)) / 1e6:.1f} MB")


def piece_bytes(dataset: "tarloom.Dataset") -> int:  # noqa: F821
    """Of a piece as it travels to a worker."""
    return len(pickle.dumps(dataset.plan()[0]))


def peak() -> float:
    """Megabytes that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
