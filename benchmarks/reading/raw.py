"""Members as bytes in one process, beside webdataset as its users call it."""

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


def webdataset(folder: str) -> int:
    return sum(1 for _ in wds.WebDataset(tars(folder), shardshuffle=False))


COMPARISONS = (
    Comparison(name="raw, dicts", wanted=10, ours=dicts, theirs=webdataset),
    Comparison(name="raw, Arrow batches", wanted=20, ours=batches, theirs=webdataset),
)
