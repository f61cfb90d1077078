"""Pictures as uint8 arrays, JSON and text decoded too, in one process, beside webdataset's own decoders (Pillow)."""

import webdataset as wds

import tarloom
from benchmarks.reading.compare import Comparison
from benchmarks.reading.data import tars


def dicts(folder: str) -> int:
    return sum(1 for _ in tarloom.open(folder).decoding("rgb", json="json", txt="text"))


def batches(folder: str) -> int:
    ds = tarloom.open(folder).decoding("rgb", json="json", txt="text")
    return sum(batch.num_rows for batch in ds.batches())


def images(folder: str) -> int:
    return sum(1 for _ in tarloom.open(folder).decoding("pil", json="json", txt="text"))


def webdataset(folder: str) -> int:
    return sum(1 for _ in wds.WebDataset(tars(folder), shardshuffle=False).decode("rgb8"))


def webdataset_images(folder: str) -> int:
    return sum(1 for _ in wds.WebDataset(tars(folder), shardshuffle=False).decode("pil"))


COMPARISONS = (
    Comparison(name="decoded, dicts of arrays", wanted=2, ours=dicts, theirs=webdataset),
    Comparison(name="decoded, Arrow batches", wanted=2, ours=batches, theirs=webdataset),
    Comparison(name="decoded, Pillow images", wanted=2, ours=images, theirs=webdataset_images),
)
