"""Plain tars through tarloom's feed, in one process."""

from collections.abc import Iterator
from typing import Any

import tarloom
import tarloom.read.feed.torch  # now, as the other sides import theirs
from benchmarks.feeding.side import BATCH, SIDE, Asked, main
from tarloom.read.feed.batches.pictures import RandomCrop


def feed(asked: Asked) -> Iterator[Any]:
    batches = tarloom.open(asked.data).select("jpg").to_torch(BATCH, decode=RandomCrop(SIDE, flip=0))
    return (batch["jpg"] for batch in batches)


if __name__ == "__main__":
    main(feed)
