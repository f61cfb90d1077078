"""No feed: pictures that are in memory are decoded whole by one thread a CPU, and nothing else is done.

No feed that decodes with this decoder is faster, unless it decodes less than the picture.
"""

import os
import tarfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.feeding.side import BATCH, SIDE, Asked, Pixels, decoded, main
from tarloom.read.samples.ahead import ahead


def feed(asked: Asked) -> Iterator[Any]:
    with tarfile.open(min(Path(asked.data).glob("*.tar"))) as tar:
        files = [tar.extractfile(member) for member in tar if member.name.endswith(".jpg")]
        pictures = cycle([file.read() for file in files if file is not None])
    threads, parts = len(os.sched_getaffinity(0)), iter(lambda: list(islice(pictures, BATCH)), [])
    for last in ahead(_last_of, parts, threads=threads, each=2):
        yield np.broadcast_to(last[:SIDE, :SIDE], (BATCH, SIDE, SIDE, 3))


def _last_of(pictures: list[bytes]) -> Pixels:
    """Of pictures that are all decoded."""
    return [decoded(data) for data in pictures][-1]


if __name__ == "__main__":
    main(feed)
