"""Blurs boxes of a picture, such as faces, so that what they hold is gone and their edges are not seen.

The geometry is that of img2dataset, which has it from the face-obfuscated ImageNet: each box is widened on all sides by
a tenth of its larger side, and a Gaussian, whose sigma is a tenth of the largest box's larger side, blurs the picture
and the boxes' own edges. (img2dataset 1.47 means to, but its Gaussian comes out at about a third of that sigma.)
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from tarloom.format.pictures import Pixels, Size

Box = Sequence[float]
"""Left, top, right, bottom, as parts of the width and height."""
Corners = tuple[int, int, int, int]

WIDER = 0.1
SIGMA = 0.1
FAINT = 4
"""Sigmas from a box beyond which nothing of its blur is seen."""
FINEST_SIGMA = 4.0
"""A wider Gaussian is applied to a smaller copy of the picture: the result is the same but for a level or two, and the
time does not grow with the boxes."""


def blurred(pixels: Pixels, boxes: Sequence[Box]) -> Pixels:
    """The picture with its boxes blurred; the same array if there are none in it."""
    size = pixels.shape[0], pixels.shape[1]
    found = [_corners(*inside, size=size) for inside in map(_inside, boxes) if inside is not None]
    if not found:
        return pixels
    sigma = SIGMA * max(_larger_side(box) for box in found)
    wide = [_widened(box, size) for box in found]
    part = _around(wide, size, math.ceil(FAINT * sigma) + 1)
    mask = np.zeros(size, dtype=np.float32)
    for left, top, right, bottom in wide:
        mask[top:bottom, left:right] = 1
    soft = _gaussian(mask[part], sigma)[..., None]
    sharp = pixels[part].astype(np.float32)
    result = pixels.copy()
    result[part] = np.clip(np.rint(sharp * (1 - soft) + _gaussian(sharp, sigma) * soft), 0, 255)
    return result


def turned_boxes(boxes: Sequence[Box], orientation: int) -> list[Box]:
    """Boxes of a picture as it is stored, in the picture turned by its EXIF orientation."""
    return [_turned(*box, orientation=orientation) for box in boxes]


def _turned(left: float, top: float, right: float, bottom: float, *, orientation: int) -> Box:
    if orientation >= 5:
        left, top, right, bottom = top, left, bottom, right
    if orientation in (3, 4, 7, 8):
        top, bottom = 1 - bottom, 1 - top
    if orientation in (2, 3, 6, 7):
        left, right = 1 - right, 1 - left
    return left, top, right, bottom


def _inside(box: Box) -> Box | None:
    """What of a box lies in the picture; None if nothing does."""
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in box)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _corners(left: float, top: float, right: float, bottom: float, *, size: Size) -> Corners:
    """In pixels, one at least."""
    first_row, first_column = min(int(top * size[0]), size[0] - 1), min(int(left * size[1]), size[1] - 1)
    return (
        first_column,
        first_row,
        max(first_column + 1, int(right * size[1])),
        max(first_row + 1, int(bottom * size[0])),
    )


def _larger_side(box: Corners) -> int:
    return max(box[2] - box[0], box[3] - box[1])


def _widened(box: Corners, size: Size) -> Corners:
    more = WIDER * _larger_side(box)
    left, top = max(0, int(box[0] - more)), max(0, int(box[1] - more))
    return left, top, min(size[1], int(box[2] + more)), min(size[0], int(box[3] + more))


def _around(boxes: Sequence[Corners], size: Size, margin: int) -> tuple[slice, slice]:
    """The part of the picture that holds all boxes and so much around them."""
    left, top = (max(0, min(box[side] for box in boxes) - margin) for side in (0, 1))
    right, bottom = (max(box[side] for box in boxes) + margin for side in (2, 3))
    return slice(top, min(size[0], bottom)), slice(left, min(size[1], right))


def _gaussian(
    values: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]", sigma: float
) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    height, width = values.shape[:2]
    times = max(1, int(sigma / FINEST_SIGMA))
    small = (max(1, width // times), max(1, height // times))
    less = cv2.resize(values, small, interpolation=cv2.INTER_AREA) if times > 1 else values
    soft = cv2.GaussianBlur(less, (0, 0), max(0.3, sigma / times))
    return np.asarray(cv2.resize(soft, (width, height)) if times > 1 else soft, dtype=np.float32)
