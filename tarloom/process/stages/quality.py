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
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
from PIL import Image, ImageChops

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
        grey = small.convert("L")
        levels = _Levels.of(grey)
        return {
            "blur": _blur(np.asarray(grey)),
            "blank": levels.deviation < self.blank_contrast,
            "brightness": levels.mean,
            "contrast": levels.deviation,
            "entropy": levels.entropy,
            "saturation": _Levels.of(_colourfulness(small)).mean,
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
    return image.resize((width, height), Image.Resampling.BOX, reducing_gap=2.0)


def _colourfulness(image: Image.Image) -> Image.Image:
    """The largest minus the smallest channel of each pixel."""
    red, green, blue = image.split()
    largest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    return ImageChops.subtract(largest, ImageChops.darker(ImageChops.darker(red, green), blue))


def _blur(grey: np.ndarray) -> float:
    """The variance of the Laplacian of all pixels that have all their neighbours; 0 where there is none."""
    if min(grey.shape) < 3:
        return 0.0
    levels = grey.astype(np.int16)
    edges = levels[1:-1, 1:-1] * -4
    for neighbours in (levels[1:-1, :-2], levels[1:-1, 2:], levels[:-2, 1:-1], levels[2:, 1:-1]):
        edges += neighbours
    squares = np.square(edges, dtype=np.int32).sum(dtype=np.int64)
    return _variance(edges.size, int(edges.sum(dtype=np.int64)), int(squares))


@dataclass(frozen=True, kw_only=True)
class _Levels:
    """What the levels of a picture of one channel are like."""

    mean: float
    deviation: float
    entropy: float

    @classmethod
    def of(cls, image: Image.Image) -> Self:
        counts, levels = np.array(image.histogram(), np.int64), np.arange(256)
        count, total, squares = int(counts.sum()), int(counts @ levels), int(counts @ levels**2)
        shares = counts[counts > 0] / count
        return cls(
            mean=total / count,
            deviation=_variance(count, total, squares) ** 0.5,
            entropy=float(-(shares * np.log2(shares)).sum()) + 0.0,  # of one level: 0, not -0
        )


def _variance(count: int, total: int, squares: int) -> float:
    """From sums that no order of summation changes."""
    return (count * squares - total * total) / (count * count)
