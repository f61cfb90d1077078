"""No feed: pictures that are in memory are decoded and cut by one thread a CPU, and nothing else is done.

No feed that decodes whole pictures with this decoder, in threads, is expected to be faster.
"""

import os
import tarfile
import threading
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.feeding.side import BATCH, SIDE, Asked, Pixels, decoded, main
from tarloom.format.ahead import ahead


class _Batch(threading.local):
    """What a thread fills again and again."""

    def __init__(self) -> None:
        self.pixels = np.zeros((BATCH, SIDE, SIDE, 3), np.uint8)


_batch = _Batch()


def feed(asked: Asked) -> Iterator[Any]:
    with tarfile.open(min(Path(asked.data).glob("*.tar"))) as tar:
        files = [tar.extractfile(member) for member in tar if member.name.endswith(".jpg")]
        pictures = cycle([file.read() for file in files if file is not None])
    parts = iter(lambda: list(islice(pictures, BATCH)), [])
    yield from ahead(_cut, parts, threads=len(os.sched_getaffinity(0)), each=2)


def _cut(pictures: list[bytes]) -> Pixels:
    """Their corners, from one place for all."""
    for place, data in zip(_batch.pixels, pictures, strict=True):
        place[:] = decoded(data)[:SIDE, :SIDE]
    return _batch.pixels


if __name__ == "__main__":
    main(feed)
