"""What makes pictures unfit for training, seen without a model: too small, blurred, blank, dark, flat.

All but the size is measured on the grey picture, made smaller (by areas) until its longer side has 512 pixels, so that
numbers of large and small files can be compared. Sums are whole numbers: every machine finds the same.

    blur         variance of the Laplacian (4 neighbours): under 100 most pictures look blurred
    brightness   mean of the grey levels, 0 to 255
    contrast     their standard deviation; a picture under `blank_contrast` is blank
    entropy      bits a pixel of their histogram, 0 to 8
    saturation   mean over the pixels of (largest - smallest channel), 0 to 255; 0 is a grey picture
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from PIL import Image

from tarloom.process.batch import Picture
from tarloom.process.picture_stage import Answer, PictureStage

LONGER_SIDE = 512


@dataclass(frozen=True, kw_only=True)
class QualityStage(PictureStage):
    """Columns `width`, `height`, `blur`, `blank`, `brightness`, `contrast`, `entropy` and `saturation`."""

    blank_contrast: float = 3.0
    """A picture is blank whose grey levels (0 to 255) have a smaller standard deviation."""

    name: ClassVar[str] = "quality"
    columns: ClassVar[Mapping[str, pa.DataType]] = {
        "width": pa.int32(),
        "height": pa.int32(),
        "blur": pa.float32(),
        "blank": pa.bool_(),
        "brightness": pa.float32(),
        "contrast": pa.float32(),
        "entropy": pa.float32(),
        "saturation": pa.float32(),
    }

    def answer(self, picture: Picture) -> Answer:
        """The size is that of the stored picture, which may be decoded smaller."""
        seen, ending = super().answer(picture)
        return ({**seen, **_stored_size(picture)} if seen else seen), ending

    def look(self, rgb: np.ndarray) -> Mapping[str, Any]:
        small = _smaller(Image.fromarray(rgb))
        grey = np.asarray(small.convert("L"), np.int64)
        colours = np.asarray(small, np.int64)
        contrast = _variance(grey) ** 0.5
        return {
            "blur": _variance(_laplacian(grey)),
            "blank": contrast < self.blank_contrast,
            "brightness": int(grey.sum()) / grey.size,
            "contrast": contrast,
            "entropy": _entropy(grey),
            "saturation": int((colours.max(axis=2) - colours.min(axis=2)).sum()) / grey.size,
        }


def _stored_size(picture: Picture) -> dict[str, int]:
    from tarloom.read.samples.decode import plain_jpeg_size  # loads the codecs

    assert picture.rgb is not None
    height, width = plain_jpeg_size(picture.data) or picture.rgb.shape[:2]
    return {"width": width, "height": height}


def _smaller(image: Image.Image) -> Image.Image:
    scale = LONGER_SIDE / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def _laplacian(grey: np.ndarray) -> np.ndarray:
    """Of each pixel that has all its neighbours; of none in a line of pixels."""
    if min(grey.shape) < 3:
        return np.zeros(1, np.int64)
    left, right, above, below = grey[1:-1, :-2], grey[1:-1, 2:], grey[:-2, 1:-1], grey[2:, 1:-1]
    return np.asarray(left + right + above + below - 4 * grey[1:-1, 1:-1])


def _variance(values: np.ndarray) -> float:
    """From whole sums, which no order of summation changes."""
    count, total, squares = values.size, int(values.sum()), int((values * values).sum())
    return (count * squares - total * total) / (count * count)


def _entropy(grey: np.ndarray) -> float:
    counts = np.bincount(grey.ravel(), minlength=256)
    shares = counts[counts > 0] / grey.size
    return float(-(shares * np.log2(shares)).sum()) + 0.0
