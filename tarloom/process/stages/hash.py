"""Hashes: of a picture's bytes, which tell copies, and of what is seen, which stay close when it is resized.

Both perceptual hashes are the well-known ones, bit for bit as the ImageHash package (hash_size 8) makes them of the
same pixels; the first bit is the highest. Pictures are alike if few bits differ: bit_count(xor(a.phash, b.phash)) <= 8.

    dhash   grey, 9 x 8 pixels (Lanczos): is each pixel darker than its right neighbour? Row by row.
    phash   grey, 32 x 32 pixels (Lanczos), its cosine transform: is each of the 8 x 8 lowest frequencies above their
            median?

A picture whose shorter side has 512 pixels or more is made smaller first, by a whole factor that leaves at least 256:
its hash takes a tenth of the time, and some of its bits may differ from ImageHash's.

The cosines are whole numbers, so that every machine finds the same bits, those of a blank picture included.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from PIL import Image

from tarloom.process.batch import Picture
from tarloom.process.picture_stage import Answer, PictureStage

SIDE = 8
"""Of a perceptual hash: 64 bits."""
ENOUGH = 256
"""Pixels of the shorter side that are left where a picture is made smaller first."""
_SAMPLES = 4 * SIDE
_ONE = 1 << 20
_COSINES = np.array(
    [[round(_ONE * math.cos(math.pi * k * (2 * n + 1) / (2 * _SAMPLES))) for n in range(_SAMPLES)] for k in range(SIDE)]
)
"""int64 of shape (frequencies, samples)."""


@dataclass(frozen=True, kw_only=True)
class HashStage(PictureStage):
    """Hashes of every picture: columns `sha256` of its bytes, and `phash` and `dhash` of what is seen."""

    name: ClassVar[str] = "hash"
    columns: ClassVar[Mapping[str, pa.DataType]] = {"sha256": pa.string(), "phash": pa.uint64(), "dhash": pa.uint64()}

    def answer(self, picture: Picture) -> Answer:
        """Bytes that are no picture have a hash too."""
        seen, ending = super().answer(picture)
        return ({**seen, "sha256": hashlib.sha256(picture.data).hexdigest()} if picture.data else {}), ending

    def look(self, rgb: np.ndarray) -> Mapping[str, Any]:
        grey = Image.fromarray(rgb).convert("L")
        grey = grey.reduce(max(1, min(grey.size) // ENOUGH))
        return {"phash": phash(grey), "dhash": dhash(grey)}


def phash(grey: Image.Image) -> int:
    """The perceptual hash of a picture of mode L."""
    waves = _COSINES @ _small(grey, _SAMPLES, _SAMPLES) @ _COSINES.T
    return _bits(waves > np.median(waves))


def dhash(grey: Image.Image) -> int:
    """The difference hash of a picture of mode L."""
    pixels = _small(grey, SIDE + 1, SIDE)
    return _bits(pixels[:, 1:] > pixels[:, :-1])


def _small(grey: Image.Image, width: int, height: int) -> np.ndarray:
    """int64 of shape (height, width)."""
    return np.asarray(grey.resize((width, height), Image.Resampling.LANCZOS), np.int64)


def _bits(flags: np.ndarray) -> int:
    return int.from_bytes(np.packbits(flags).tobytes(), "big")
