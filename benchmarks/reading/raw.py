"""Members as bytes in one process, beside webdataset as its users call it."""

import webdataset as wds

import tarloom
from benchmarks.reading.compare import Comparison
from benchmarks.reading.data import tars


def dicts(folder: str) -> int:
    return sum(1 for _ in tarloom.open(folder))


def batches(folder: str) -> int:
    return sum(batch.num_rows for batch in tarloom.open(folder).batches())


def webdataset(folder: str) -> int:
    return sum(1 for _ in wds.WebDataset(tars(folder), shardshuffle=False))


COMPARISONS = (
    Comparison(name="raw, dicts", wanted=10, ours=dicts, theirs=webdataset),
    Comparison(name="raw, Arrow batches", wanted=20, ours=batches, theirs=webdataset),
)
