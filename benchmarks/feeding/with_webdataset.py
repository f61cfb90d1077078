"""Plain tars through webdataset and the torch DataLoader, as webdataset's documentation has it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import webdataset as wds

from benchmarks.feeding.side import BATCH, Asked, cropped, decoded, main

BUFFER = 1000
"""Samples to shuffle from."""


def feed(asked: Asked) -> Iterator[Any]:
    tars = sorted(str(path) for path in Path(asked.data).glob("*.tar"))
    samples = wds.WebDataset(tars, shardshuffle=len(tars), select_files=is_picture).shuffle(BUFFER)
    samples = samples.to_tuple("jpg").map_tuple(decoded) if asked.same else samples.decode("rgb8").to_tuple("jpg")
    batches = samples.map_tuple(cropped).batched(BATCH)
    return (pixels for (pixels,) in wds.WebLoader(batches, batch_size=None, num_workers=asked.workers))


def is_picture(name: str) -> bool:
    return name.endswith(".jpg")


if __name__ == "__main__":
    main(feed)
