"""Members as bytes in one process, beside webdataset as its users call it."""

import mmap
from typing import Any

import numpy as np
import pyarrow as pa
import webdataset as wds

from benchmarks.reading.compare import Comparison
from benchmarks.reading.data import tars
from tarloom.read.dataset import open_dataset

pa.table({"a": ["imports what pyarrow imports at its first conversion: pandas, where it is installed"]})


def dicts(folder: str) -> int:
    return sum(1 for _ in open_dataset(folder))


def batches(folder: str) -> int:
    return sum(batch.num_rows for batch in open_dataset(folder).batches())


def mapped(folder: str) -> int:
    return sum(batch.num_rows for batch in open_dataset(folder).batches(memory_map=True))


def mapped_and_looked_at(folder: str) -> int:
    """Of every page that a picture lies in, one byte is looked at, which proves that it is there."""
    rows = seen = 0
    for batch in open_dataset(folder).batches(memory_map=True):
        rows += batch.num_rows
        seen += sum(int(np.frombuffer(pictures, np.uint8)[:: mmap.PAGESIZE].sum()) for pictures in _files(batch["jpg"]))
    assert seen
    return rows


def _files(views: "pa.Array[Any]") -> list[pa.Buffer]:
    """Those parts of files that the views lie in."""
    return [buffer for buffer in views.buffers()[2:] if buffer is not None]


def webdataset(folder: str) -> int:
    return sum(1 for _ in wds.WebDataset(tars(folder), shardshuffle=False))


COMPARISONS = (
    Comparison(name="raw, dicts", wanted=10, ours=dicts, theirs=webdataset),
    Comparison(name="raw, Arrow batches", wanted=20, ours=batches, theirs=webdataset),
    Comparison(name="raw, Arrow batches, mapped", wanted=20, ours=mapped, theirs=webdataset),
    Comparison(name="raw, mapped and looked at", wanted=20, ours=mapped_and_looked_at, theirs=webdataset),
)
