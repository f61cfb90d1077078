"""MosaicML Streaming and the torch DataLoader, from Streaming's own format."""

import io
import tarfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from streaming import MDSWriter, StreamingDataset
from streaming.base.util import clean_stale_shared_memory
from torch.utils.data import DataLoader

from benchmarks.feeding.side import BATCH, Asked, cropped, decoded, main


class Pictures(StreamingDataset):  # type: ignore[misc]
    """Cropped, as tensors."""

    def __init__(self, asked: Asked) -> None:
        super().__init__(local=asked.data, shuffle=True, batch_size=BATCH)
        self._decode = decoded if asked.same else by_pillow

    def __getitem__(self, at: int) -> Any:
        return torch.from_numpy(cropped(self._decode(super().__getitem__(at)["jpg"])))


def by_pillow(data: bytes) -> Any:
    """As Streaming's own encoding `jpeg` does."""
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def feed(asked: Asked) -> Iterator[Any]:
    clean_stale_shared_memory()
    return iter(DataLoader(Pictures(asked), batch_size=BATCH, num_workers=asked.workers))


def make(tars: list[str], folder: str) -> None:
    with MDSWriter(out=folder, columns={"jpg": "bytes"}) as out:
        for path in tars:
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.name.endswith(".jpg"):
                        out.write({"jpg": tar.extractfile(member).read()})  # type: ignore[union-attr]


if __name__ == "__main__":
    main(feed, make)
