"""One sample in a hundred, chosen by a column of the metadata; beside reading all samples and looking into their JSON.

Over S3, what the reader was sent in all (listing, catalogue, parquet and HTTP's headers included) is printed beside
what it was for: the bytes of the samples that were chosen. And how long the bare requests take: the server works on the
same CPUs, so there is no being faster than that.
"""

import contextlib
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import obstore
import pyarrow as pa
import webdataset as wds

import tarloom
from benchmarks.reading.compare import Comparison
from benchmarks.reading.data import tars
from benchmarks.reading.on_s3 import CountingRelay, bare_seconds, uploaded
from tarloom.format.storage.client import object_store
from tarloom.read.columns.evaluate import passing_rows  # and duckdb
from tarloom.read.columns.sql import cursor

LIMIT = 294
WHERE = f"original_width < {LIMIT}"
"""The column is uniform from 256 to 4095: one in a hundred."""
LOADED = (passing_rows, tarloom.open)

pa.table({"a": ["imports what pyarrow imports at its first conversion: pandas, where it is installed"]})


def ours(folder: str) -> Iterator[int | None]:
    cursor().close()  # starts duckdb
    yield None
    yield sum(1 for _ in tarloom.open(folder).where(WHERE))


def webdataset(folder: str) -> int:
    return sum(1 for _ in wds.WebDataset(tars(folder), shardshuffle=False).select(_wanted))


def webdataset_over_s3(folder: str) -> int:
    """By webdataset's own way to an object: curl, here with signed addresses."""
    names = [shard.tar.name for shard in tarloom.open(folder).shards]
    addresses = obstore.sign(object_store(folder), "GET", names, timedelta(hours=1))
    return sum(1 for _ in wds.WebDataset(addresses, shardshuffle=False).select(_wanted))


def _wanted(sample: dict[str, Any]) -> bool:
    return bool(json.loads(sample["json"])["original_width"] < LIMIT)


@contextlib.contextmanager
def on_s3(folder: str) -> Iterator[str]:
    """On the server, after the bytes have been counted that one reading takes."""
    with uploaded(folder) as address:
        object_store.cache_clear()  # the next client asks at the relay
        with CountingRelay() as relay:
            needed = sum(len(value) for sample in tarloom.open(address).where(WHERE) for value in _members(sample))
        answered, times = f"{relay.answered:,} bytes in {relay.asked} answers", relay.answered / needed
        print(f"where over S3: {answered} for {needed:,}: {times:.2f} x (wanted at most 1.5)")
        object_store.cache_clear()
        alone = bare_seconds(address, relay.ranges)
        print(f"where over S3: {alone * 1e3:.0f} ms for {len(relay.ranges)} of these requests and nothing else")
        yield address


def _members(sample: dict[str, Any]) -> list[bytes]:
    return [value for value in sample.values() if isinstance(value, bytes)]


COMPARISONS = (
    Comparison(name="where keeps 1 %, local", wanted=25, ours=ours, theirs=webdataset),
    Comparison(name="where keeps 1 %, S3", wanted=25, ours=ours, theirs=webdataset_over_s3, place=on_s3),
)
