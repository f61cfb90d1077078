"""Pictures at another size, as JPEGs keep them: brightness with all care, colours no better than can be seen there.

JPEGs keep one colour for four pixels, and those who show them smooth colours between. What that blurs is sharpened
before: it costs 0.2 ms for a picture of 256 x 340 and 2 % of its bytes, and is worth half a dB on photographs, more on
drawings (picture_quality.py): more than reducing exactly by area is, which costs five times as much. As so little of
colours is kept, they are read at fewer points than brightness, which saves as much time and loses a twentieth of a dB.
"""

import cv2
import numpy as np

from tarloom.create.config import Interpolation
from tarloom.create.pictures.scale import Covered, read_and_halved, resized
from tarloom.format.pictures import Pixels, Size

CRISPNESS = 0.45
"""How much of their difference from their surroundings is added to the colours."""
SURROUNDINGS = (5, 5)
COLOUR_LINES_APART = 6
"""When a picture is made smaller by area, its colours are read at this distance or less, in its own pixels."""


def resized_for_jpeg(pixels: Pixels, size: Size, method: Interpolation, covered: Covered) -> Pixels:
    """RGB at another size, its colours sharpened."""
    rows, columns = covered[0] / size[0], covered[1] / size[1]
    if method != "area" or min(rows, columns) < 1:
        return crisp(resized(pixels, size, method, covered))
    times = 1
    while max(rows, columns) > times * COLOUR_LINES_APART:
        times *= 2
    if times**2 * size[0] * size[1] > pixels.shape[0] * pixels.shape[1]:  # One side becomes far smaller than the other.
        return crisp(resized(pixels, size, method, covered))
    brightness = resized(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), size, method, covered)
    return crisp(read_and_halved(pixels, size, covered, times), brightness)


def crisp(pixels: Pixels, brightness: Pixels | None = None) -> Pixels:
    """RGB, its colours sharpened, its brightness as it was, or as it is said to be: (height, width)."""
    before = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)
    after = np.asarray(cv2.addWeighted(before, 1 + CRISPNESS, cv2.blur(before, SURROUNDINGS), -CRISPNESS, 0))
    cv2.insertChannel(cv2.extractChannel(before, 0) if brightness is None else brightness, after, 0)
    return np.asarray(cv2.cvtColor(after, cv2.COLOR_YCrCb2RGB), dtype=np.uint8)
