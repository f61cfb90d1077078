"""Plain tars through tarloom's feed, in one process, or by the workers of its loader."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

import tarloom
import tarloom.read.feed.batches.fitting  # now, as the other sides import theirs
import tarloom.read.feed.torch
from benchmarks.feeding.side import BATCH, SIDE, Asked, main
from tarloom.read.feed.batches.pictures import RandomCrop

pa.table({"a": ["imports what pyarrow imports at its first conversion: pandas, where it is installed"]})


def feed(asked: Asked) -> Iterator[Any]:
    pictures = tarloom.open(asked.data).select("jpg")
    made = pictures.to_torch(BATCH, decode=RandomCrop(SIDE, flip=0), memory_map=asked.mapped)
    return (batch["jpg"] for batch in (made.loader(num_workers=asked.workers) if asked.workers else made))


if __name__ == "__main__":
    main(feed)
