"""No feed: pictures that are in memory are decoded and cut by one thread a CPU, and nothing else is done.

They are decoded to where tarloom's feed decodes them: into memory that is in the processor's cache, and stays there.
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
import simplejpeg

from benchmarks.feeding.side import BATCH, SIDE, Asked, Pixels, main
from tarloom.format.ahead import ahead
from tarloom.read.feed.batches.fitting import memory_for


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
        size = simplejpeg.decode_jpeg_header(data)[:2]
        place[:] = simplejpeg.decode_jpeg(data, "RGB", buffer=memory_for(size))[:SIDE, :SIDE]
    return _batch.pixels


if __name__ == "__main__":
    main(feed)
