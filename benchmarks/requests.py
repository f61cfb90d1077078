"""What a request costs beside reading on, for format/storage/packing.py and scatter.py: python -m benchmarks.requests

Reads one picture in so many of a few shards, in the frugal way and in the quick one: from the page cache, from the disk
(the cache is told to forget the files), and over S3 from radosgw on loopback. Then tells how many bytes could have been
read in the time that a request takes: `gap_bytes`. The rows show from
which share on the quick way is the faster one.
"""

import argparse
import contextlib
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.reading.data import make_dataset, tars
from benchmarks.reading.on_s3 import uploaded
from tarloom.format.index_load import load_index
from tarloom.format.storage import Storage, open_storage, packing, scatter
from tarloom.format.storage.ranges import Medium, Ranges, coalesce

SHARES = (0.01, 0.03, 0.1, 0.2, 0.5, 1.0)
WAYS = {"frugal": math.inf, "quick": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-") as folder:
        make_dataset(Path(folder), shards=options.shards, samples=1000)
        storage = open_storage(folder)
        places = pictures(storage)
        report("page cache", storage, places, options.rounds, before=lambda: None)
        report("disk", storage, places, options.rounds, before=lambda: forget(folder))
        with uploaded(folder) as address:
            report("radosgw", open_storage(address), places, options.rounds, before=lambda: None)


def pictures(storage: Storage) -> dict[str, Ranges]:
    """Where the pictures of each tar lie."""
    found = {}
    for tar in storage.list():
        if tar.name.endswith(".tar"):
            index = load_index(storage, tar.name.removesuffix(".tar"), tar)
            found[tar.name] = Ranges(offsets=index.offsets("jpg").to_numpy(), sizes=index.sizes("jpg").to_numpy())
    return found


def report(
    medium: str, storage: Storage, places: dict[str, Ranges], rounds: int, *, before: Callable[[], None]
) -> None:
    """Print times, requests and bytes of both ways for each share of the pictures."""
    chance = np.random.default_rng(0)
    settings = scatter.LOCAL if storage.is_local else packing.REMOTE
    for share in SHARES:
        chosen = {name: found.take(chance.random(len(found)) < share) for name, found in places.items()}
        wanted = sum(int(found.sizes.sum()) for found in chosen.values())
        for way, worth in WAYS.items():
            with as_set(replace(settings, worth=worth)) as used:
                requests = [coalesce(found, used) for found in chosen.values()]
                count, size = sum(map(len, requests)), sum(int((r.ends - r.starts).sum()) for r in requests)
                seconds = statistics.median(timed(storage, chosen, before) for _ in range(rounds))
            print(
                f"{medium:10} {share:4.0%} {way:6} {seconds * 1e3:8.1f} ms, {count:5} requests,"
                f" {size / max(wanted, 1):5.2f} x the bytes wanted",
                flush=True,
            )
    print(f"{medium:10} a request costs as much as {gap(storage, places, rounds, before):,.0f} bytes")


def gap(storage: Storage, places: dict[str, Ranges], rounds: int, before: Callable[[], None]) -> float:
    """Bytes that could be read in the time that another request takes: pictures far apart, and all bytes at once."""
    apart = {name: found.take(slice(None, None, 40)) for name, found in places.items()}
    whole = {
        name: Ranges(offsets=found.offsets[:1], sizes=found.ends[-1:] - found.offsets[:1])
        for name, found in places.items()
    }
    few, many = (statistics.median(timed(storage, chosen, before) for _ in range(rounds)) for chosen in (apart, whole))
    sizes = [sum(int(found.sizes.sum()) for found in chosen.values()) for chosen in (apart, whole)]
    rate = sizes[1] / many
    return few * rate / sum(map(len, apart.values())) - sizes[0] / sum(map(len, apart.values()))


def timed(storage: Storage, chosen: dict[str, Ranges], before: Callable[[], None]) -> float:
    before()
    started = time.perf_counter()
    for name, ranges in chosen.items():
        storage.read_packed(name, [ranges])
    return time.perf_counter() - started


@contextlib.contextmanager
def as_set(medium: Medium) -> Iterator[Medium]:
    """Both kinds of storage with these settings."""
    with mock.patch.object(scatter, "LOCAL", medium), mock.patch.object(packing, "REMOTE", medium):
        yield medium


def forget(folder: str) -> None:
    for path in tars(folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


if __name__ == "__main__":
    main()
