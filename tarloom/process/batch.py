"""What a stage sees: rows of a shard, and their pictures, which are decoded once for all stages of a run.

Decoding is in threads: the decoders release the GIL.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import numpy as np
import pyarrow as pa
from PIL import Image

from tarloom.errors import ImageError
from tarloom.format.arrow_types import Array
from tarloom.format.cpus import cpu_share
from tarloom.format.index import KEY
from tarloom.format.layout import IMAGE_MEMBERS
from tarloom.format.sidecar import FAILED, SKIPPED, SUCCESS

AT_LEAST = 1024
"""Pixels that both sides of a decoded picture keep: more than nearly all models can see."""
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
    """The row's status and error, where nothing else goes wrong."""


class Batch:
    """Rows of one shard, as stages see them. Safe to use from several threads."""

    def __init__(
        self, rows: pa.RecordBatch, decoder: "Decoder", decoded: Mapping[int, Sequence[Picture]] | None = None
    ) -> None:
        self.rows = rows
        """`__key__`, members as binary, columns of the metadata and of sidecars by their full names."""
        self._decoder = decoder
        self._decoded = {size: list(pictures) for size, pictures in (decoded or {}).items()}
        self._lock = Lock()

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    @property
    def keys(self) -> Array:
        return self.rows.column(KEY)

    @property
    def sizes(self) -> list[int]:
        """For which its pictures have been decoded."""
        return sorted(self._decoded)

    def column(self, name: str) -> Array:
        """A member or a column. Raises KeyError for one that the stage has not asked for."""
        return self.rows.column(name)

    def pictures(self, at_least: int = AT_LEAST) -> list[Picture]:
        """One a row, in order: of its first member that holds one. They are shared: leave their pixels as they are.

        at_least: pixels that both sides keep where a JPEG can be decoded smaller at once. Whoever asks for the same
        gets the same pixels, without decoding them again.
        """
        with self._lock:
            if at_least not in self._decoded:
                self._decoded[at_least] = self._decoder(self.rows, at_least)
            return self._decoded[at_least]

    def select(self, numbers: Sequence[int]) -> "Batch":
        """These rows alone, with what has been decoded of them."""
        decoded = {size: [pictures[n] for n in numbers] for size, pictures in self._decoded.items()}
        return Batch(self.rows.take(pa.array(numbers, pa.int64())), self._decoder, decoded)

    def joined(self, columns: Mapping[str, Array]) -> "Batch":
        """The same rows with more columns."""
        rows = self.rows
        for name, values in columns.items():
            rows = rows.append_column(name, values)
        return Batch(rows, self._decoder, self._decoded)


class Decoder:
    """Decodes the pictures of batches in as many threads as this process was given CPUs."""

    def __init__(self) -> None:
        from tarloom.read.samples.decode import decode_rgb  # loads the codecs: only where pictures are decoded

        self._decode_rgb = decode_rgb
        self._threads = ThreadPoolExecutor(cpu_share(), thread_name_prefix="tarloom-decode")

    def __call__(self, rows: pa.RecordBatch, at_least: int) -> list[Picture]:
        """One a row, in order."""
        return list(self._threads.map(lambda data: self._decode(data, at_least), stored_pictures(rows)))

    def close(self) -> None:
        """What is being decoded is waited for, what was to be is not."""
        self._threads.shutdown(cancel_futures=True)

    def _decode(self, data: bytes | None, at_least: int) -> Picture:
        if data is None:
            return Picture(ending=(SKIPPED, NO_PICTURE))
        try:
            rgb = self._decode_rgb(data, at_least=at_least)
        except ImageError as error:
            return Picture(data=data, ending=(FAILED, error.name))
        if max(rgb.shape[:2]) > MAX_ASPECT_RATIO * min(rgb.shape[:2]):
            return Picture(data=data, ending=(FAILED, ASPECT_RATIO_TOO_LARGE))
        return Picture(data=data, rgb=rgb)


def stored_pictures(rows: pa.RecordBatch) -> Iterator[bytes | None]:
    """Each row's first member that holds a picture, as stored; None where it has none."""
    columns = [rows.column(member) for member in IMAGE_MEMBERS if member in rows.schema.names]
    for row in range(rows.num_rows):
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
