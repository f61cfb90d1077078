"""From a batch's bytes to pictures in memory, in threads: the decoders release the GIL."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import Image

from tarloom.errors import ImageError
from tarloom.format.cpus import cpu_share
from tarloom.format.layout import IMAGE_MEMBERS
from tarloom.format.sidecar import FAILED, SKIPPED, SUCCESS

NO_PICTURE = "no_picture"
ASPECT_RATIO_TOO_LARGE = "aspect_ratio_too_large"
MAX_ASPECT_RATIO = 200
"""Models see a picture with its shorter side made as long as they need: a line of pixels would fill the memory."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A row's picture, or why there is none."""

    data: bytes = b""
    """The member as stored."""
    rgb: np.ndarray | None = None
    """uint8 of shape (height, width, 3)."""
    ending: tuple[str, str | None] = (SUCCESS, None)


class Decoder:
    """Decodes the pictures of batches in as many threads as this process was given CPUs.

    max_pixels: a larger picture is made smaller, its aspect kept; None leaves all as they are.
    at_least: pixels that both sides must keep where a JPEG can be decoded smaller at once; 0 for full size.
    """

    def __init__(self, *, max_pixels: int | None = None, at_least: int = 0) -> None:
        from tarloom.read.samples.decode import decode_rgb  # loads the codecs: only where pictures are decoded

        self._decode_rgb = decode_rgb
        self._max_pixels = max_pixels
        self._at_least = at_least if max_pixels is None else math.ceil(math.sqrt(max_pixels))
        self._threads = ThreadPoolExecutor(cpu_share(), thread_name_prefix="tarloom-decode")

    def __call__(self, batch: pa.RecordBatch) -> list[Picture]:
        """One a row, in order."""
        return list(self._threads.map(self._decode, stored_pictures(batch)))

    def close(self) -> None:
        self._threads.shutdown()

    def _decode(self, data: bytes | None) -> Picture:
        if data is None:
            return Picture(ending=(SKIPPED, NO_PICTURE))
        try:
            rgb = self._decode_rgb(data, at_least=self._at_least)
        except ImageError as error:
            return Picture(data=data, ending=(FAILED, error.name))
        if max(rgb.shape[:2]) > MAX_ASPECT_RATIO * min(rgb.shape[:2]):
            return Picture(data=data, ending=(FAILED, ASPECT_RATIO_TOO_LARGE))
        return Picture(data=data, rgb=rgb if self._max_pixels is None else shrink(rgb, self._max_pixels))


def stored_pictures(batch: pa.RecordBatch) -> Iterator[bytes | None]:
    """Each row's first member that holds a picture, as stored; None where it has none."""
    columns = [batch.column(member) for member in IMAGE_MEMBERS if member in batch.schema.names]
    for row in range(batch.num_rows):
        present = (column[row].as_py() for column in columns if column[row].is_valid)
        yield next(present, None)


def shrink(rgb: np.ndarray, max_pixels: int) -> np.ndarray:
    """The picture with at most `max_pixels` pixels and its aspect kept; the same array if it is small enough."""
    height, width = rgb.shape[:2]
    if height * width <= max_pixels:
        return rgb
    scale = math.sqrt(max_pixels / (height * width))
    size = max(1, int(width * scale)), max(1, int(height * scale))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))
