"""What every side has in common: how it is asked for, what it tells, and tarloom's decoder for those who use it.

It runs in environments that know neither tarloom nor each other, so it needs numpy and simplejpeg alone.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg

SIDE = 224
BATCH = 256
LOOKED_AT = 4
"""So many times fewer batches are fed once more, while the memory is looked at, which takes time itself."""
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How images are to be fed."""

    data: str
    """A folder in the side's own format."""
    workers: int
    same: bool
    """Decode with tarloom's decoder, not with what the project's users have."""
    mapped: bool
    """tarloom alone: decode pictures where they lie in mapped tars."""


def decoded(data: bytes) -> Pixels:
    """As tarloom decodes JPEGs without EXIF."""
    return simplejpeg.decode_jpeg(data, "RGB")


def cropped(pixels: Any) -> Any:
    """A view of a part by chance, of shape (SIDE, SIDE, 3)."""
    height, width, _ = pixels.shape
    top, left = np.random.randint(height - SIDE + 1), np.random.randint(width - SIDE + 1)
    return pixels[top : top + SIDE, left : left + SIDE]


def main(feed: Callable[[Asked], Iterable[Any]], make: Callable[[list[str], str], None] | None = None) -> None:
    """Feed batches and tell of it; or, asked to, make the side's own format of tars."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--same", action="store_true")
    parser.add_argument("--mapped", action="store_true")
    parser.add_argument("--batches", type=int, default=1)
    parser.add_argument("--make-of", nargs="*", metavar="TAR")
    options = parser.parse_args()
    if options.make_of and make is not None:
        make(options.make_of, options.data)
    else:
        asked = Asked(data=options.data, workers=options.workers, same=options.same, mapped=options.mapped)
        _run(lambda: feed(asked), options.batches)


def _run(feed: Callable[[], Iterable[Any]], batches: int) -> None:
    started = time.perf_counter()
    coming = _checked(feed())
    next(coming)
    _tell(first=time.perf_counter() - started)
    started, images = time.perf_counter(), sum(islice(coming, batches))
    _tell(images=images, seconds=time.perf_counter() - started)
    _tell(images=sum(islice(coming, batches // LOOKED_AT)))


def _checked(batches: Iterable[Any]) -> Iterator[int]:
    """How many images each has."""
    for pixels in batches:
        shape = tuple(pixels.shape)
        if shape[1:] not in ((SIDE, SIDE, 3), (3, SIDE, SIDE)) or str(pixels.dtype).removeprefix("torch.") != "uint8":
            sys.exit(f"a batch of the wrong kind: {shape}, {pixels.dtype}")
        yield shape[0]


def _tell(**facts: float) -> None:
    """Say it, and wait until it has been heard."""
    print(json.dumps(facts), flush=True)
    sys.stdin.readline()
