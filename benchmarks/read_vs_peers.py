"""Every reader beside what its users would use without tarloom: python -m benchmarks.read_vs_peers [--only raw]

Makes 30 shards of 1000 samples of about 30 KB (see reading/data.py), reads them once so that they lie in the page
cache, then runs every comparison of benchmarks/reading several times, both sides in turn, each in a fresh process.
Prints medians, their ratio, and the ratio that is wanted. Exits with 1 where one is missed.
"""

import argparse
import contextlib
import importlib
import os
import pkgutil
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import reading
from benchmarks.reading.compare import Comparison, compare
from benchmarks.reading.data import make_dataset, tars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="comparisons of this file of reading/, or with this in their name")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shards", type=int, default=30)
    parser.add_argument("--samples", type=int, default=1000, help="in each shard")
    parser.add_argument(
        "--data", type=Path, help="keep the dataset here, for the next time; default: a temporary folder"
    )
    options = parser.parse_args()
    wanted = list(_comparisons(options.only))
    if not wanted:
        sys.exit(f"no comparison is called {options.only!r}")
    with contextlib.ExitStack() as stack:
        folder = options.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tarloom-benchmark-")))
        make_dataset(folder, shards=options.shards, samples=options.samples)
        size = sum(_warmed(path) for path in tars(str(folder)))
        print(f"{options.shards * options.samples:,} samples, {size / 1e6:,.0f} MB; medians of {options.rounds} rounds")
        met = [compare(comparison, str(folder), rounds=options.rounds) for comparison in wanted]
    sys.exit(not all(met))


def _comparisons(only: str) -> Iterator[Comparison]:
    names = [module.name for module in pkgutil.iter_modules(reading.__path__)]
    for name in [only] if only in names else names:
        for comparison in getattr(importlib.import_module(f"{reading.__name__}.{name}"), "COMPARISONS", ()):
            if only == name or only in comparison.name:
                yield comparison


def _warmed(path: str) -> int:
    """The file's size; it is in the page cache now, as it came from the disk. (What was just written lies there in
    smaller pieces, from which both sides copy more slowly.)"""
    with open(path, "rb") as file, open("/dev/null", "wb") as nothing:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        shutil.copyfileobj(file, nothing, 1 << 20)
    return Path(path).stat().st_size


if __name__ == "__main__":
    main()
