"""Sizes: what a picture is scaled to, how its pixels are, and how it is padded or cut to its canvas."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from tarloom.create.config import ImageOptions, Interpolation
from tarloom.format.pictures import WHITE, Pixels, Size

EXACT_BELOW = 1.8
"""Pictures that become less than this many times smaller are reduced exactly, however long it takes."""
EXACT_ABOVE = 16_000_000
"""Pixels: larger pictures are reduced exactly, too, as what they are read at in between would take much memory."""
LINES_APART = 2
"""When a picture is made smaller by area, it is first read at this distance or less, in its own pixels. More is faster
and worse (picture_quality.py)."""
MULTIPLES = (2, 4, 8, 16, 32)
"""Of the wanted size: what a picture is read at before pixels are added up, two by two."""
FAR_LARGER = 64
"""Times the canvas: of a picture that is scaled to more, only the middle is, as all else would be cut off."""
BEYOND = 4
"""Pixels beyond the canvas that any method of enlarging looks at."""

METHODS: dict[Interpolation, int] = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "bilinear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
    "lanczos4": cv2.INTER_LANCZOS4,
}

Covered = tuple[float, float]
"""Rows and columns that a picture covers of an array: a JPEG that is decoded smaller may end within the last ones."""

cv2.setNumThreads(1)  # Pictures are worked on side by side; threads within one small picture only cost time.


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What becomes of a picture of some size."""

    scaled: Size
    canvas: Size
    """Padded with white, or cut around its middle, to this."""
    method: Interpolation
    """How it is scaled."""

    def changes(self, original: Size) -> bool:
        return not original == self.scaled == self.canvas


ShapeOf = Callable[[Size], Shape]
Resize = Callable[[Pixels, Size, Interpolation, Covered], Pixels]
"""`resized`, or the like."""


def shape_of(original: Size, options: ImageOptions) -> Shape:
    """img2dataset's resize modes."""
    shorter = options.resize_mode in ("keep_ratio", "center_crop")
    side = min(original) if shorter else max(original)
    method = options.downscale_interpolation if side > options.image_size else options.upscale_interpolation
    if options.resize_mode == "no" or (options.resize_only_if_bigger and side <= options.image_size):
        return Shape(scaled=original, canvas=original, method=method)
    scale = options.image_size / side
    scaled = max(1, round(original[0] * scale)), max(1, round(original[1] * scale))
    square = options.resize_mode in ("border", "center_crop")
    return Shape(scaled=scaled, canvas=(options.image_size,) * 2 if square else scaled, method=method)


def resized(pixels: Pixels, size: Size, method: Interpolation, covered: Covered) -> Pixels:
    """Pixels of any number of channels at another size; the same array if it has that size."""
    if pixels.shape[:2] == size:
        return pixels
    return _by_area(pixels, size, covered) if method == "area" else _resize(pixels, size, METHODS[method], covered)


def of_middle(resize: Resize, canvas: Size) -> Resize:
    """Scales what the canvas shows alone, where all of a picture would be far larger than canvas and picture: lines of
    a few hundred pixels, to be cropped, become hundreds of MiB."""

    def scaled(pixels: Pixels, size: Size, method: Interpolation, covered: Covered) -> Pixels:
        original = pixels.shape[0] * pixels.shape[1]
        if size[0] * size[1] <= max(original, FAR_LARGER * canvas[0] * canvas[1]):
            return resize(pixels, size, method, covered)
        rows, new_rows = _middle(pixels.shape[0], size[0], canvas[0])
        columns, new_columns = _middle(pixels.shape[1], size[1], canvas[1])
        part = np.ascontiguousarray(pixels[rows, columns])
        return resize(part, (new_rows, new_columns), method, part.shape[:2])

    return scaled


def _middle(length: int, scaled: int, canvas: int) -> tuple[slice, int]:
    """What of a side to scale, and to which length, so that its middle fills the canvas."""
    needed = math.ceil(min(scaled, canvas) * length / scaled) + 2 * BEYOND
    left_out = max(0, length - needed) // 2  # on both sides alike: the middle stays the middle
    kept = length - 2 * left_out
    return slice(left_out, left_out + kept), round(kept * scaled / length)


def on_canvas(pixels: Pixels, canvas: Size) -> Pixels:
    """Padded with white, or cut around the middle; the same array if it has that size."""
    missing_rows, missing_columns = canvas[0] - pixels.shape[0], canvas[1] - pixels.shape[1]
    if missing_rows < 0 or missing_columns < 0:
        top, left = max(0, -missing_rows // 2), max(0, -missing_columns // 2)
        pixels = np.ascontiguousarray(pixels[top : top + canvas[0], left : left + canvas[1]])
    if missing_rows <= 0 and missing_columns <= 0:
        return pixels
    rows, columns = max(0, missing_rows), max(0, missing_columns)
    top, left = rows // 2, columns // 2
    sides = (top, rows - top, left, columns - left)
    return _pixels(cv2.copyMakeBorder(pixels, *sides, borderType=cv2.BORDER_CONSTANT, value=WHITE))


def _by_area(pixels: Pixels, size: Size, covered: Covered) -> Pixels:
    """Each pixel becomes the mean of the area it covers.

    OpenCV's own way is exact but slow where the factor is no whole number (most of what making a shard would cost). So
    lines are first read, linearly, at a multiple of the wanted size, and then added up two by two.
    """
    rows, columns = covered[0] / size[0], covered[1] / size[1]
    times = next((times for times in MULTIPLES if max(rows, columns) <= LINES_APART * times), None)
    uneven = abs(rows - columns) > 0.1 * max(rows, columns)
    large = pixels.shape[0] * pixels.shape[1] > EXACT_ABOVE
    if times is None or min(rows, columns) < EXACT_BELOW or uneven or large:
        return _resize(pixels, size, cv2.INTER_AREA, covered)
    return read_and_halved(pixels, size, covered, times)


def read_and_halved(pixels: Pixels, size: Size, covered: Covered, times: int) -> Pixels:
    """Read linearly at so many times the size, a power of two, then added up two by two."""
    pixels = _resize(pixels, (times * size[0], times * size[1]), cv2.INTER_LINEAR, covered)
    while times > 1:
        times //= 2
        pixels = _resize(pixels, (times * size[0], times * size[1]), cv2.INTER_AREA, pixels.shape[:2])
    return pixels


def _resize(pixels: Pixels, size: Size, method: int, covered: Covered) -> Pixels:
    if pixels.shape[:2] == covered:
        return pixels if covered == size else _pixels(cv2.resize(pixels, size[::-1], interpolation=method))
    scales = {"fx": size[1] / covered[1], "fy": size[0] / covered[0]}
    return _pixels(cv2.resize(pixels, None, **scales, interpolation=method))[: size[0], : size[1]]


def _pixels(array: Any) -> Pixels:
    return np.asarray(array, dtype=np.uint8)
