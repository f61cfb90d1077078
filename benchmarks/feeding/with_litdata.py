"""LitData and its loader, from LitData's own format."""

import tarfile
from collections.abc import Iterator
from typing import Any

import torch
from litdata import StreamingDataLoader, StreamingDataset, optimize
from litdata.streaming.serializers import JPEGSerializer
from litdata.types import Jpeg

from benchmarks.feeding.side import BATCH, Asked, cropped, decoded, main


class Same(JPEGSerializer):  # type: ignore[misc]
    """Decodes as tarloom does."""

    def deserialize(self, data: bytes) -> Any:
        return torch.from_numpy(decoded(bytes(data))).permute(2, 0, 1)


def crop(sample: Any) -> Any:
    return cropped(sample["jpg"].permute(1, 2, 0)).permute(2, 0, 1)


def feed(asked: Asked) -> Iterator[Any]:
    serializers = {"jpeg": Same()} if asked.same else None
    pictures = StreamingDataset(asked.data, shuffle=True, serializers=serializers, transform=crop)
    return iter(StreamingDataLoader(pictures, batch_size=BATCH, num_workers=asked.workers))


def pictures_of(path: str) -> Iterator[Any]:
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name.endswith(".jpg"):
                yield {"jpg": Jpeg(bytes=tar.extractfile(member).read(), max_quality=None)}  # type: ignore[union-attr]


def make(tars: list[str], folder: str) -> None:
    optimize(pictures_of, inputs=tars, output_dir=folder, chunk_bytes="64MB", num_workers=1)


if __name__ == "__main__":
    main(feed, make)
