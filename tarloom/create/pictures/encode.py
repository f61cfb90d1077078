"""Pixels to a picture's bytes.

JPEGs keep one colour for four pixels, and those who show them smooth colours between: what that blurs is sharpened
before. It costs 0.2 ms for a picture of 256 x 340 and 2 % of its bytes, and is worth half a dB on photographs, more on
drawings (picture_quality.py): more than reducing exactly by area is, which costs five times as much.
"""

from typing import Any

import cv2
import numpy as np

from tarloom.create.config import EncodeFormat
from tarloom.errors import ImageError
from tarloom.format.pictures import Pixels

LONGEST_SIDE: dict[EncodeFormat, int] = {"jpg": 65_500, "png": 1_000_000, "webp": 16_383}
"""What the encoders take, in pixels."""
_QUALITY: dict[EncodeFormat, int] = {
    "jpg": cv2.IMWRITE_JPEG_QUALITY,
    "png": cv2.IMWRITE_PNG_COMPRESSION,
    "webp": cv2.IMWRITE_WEBP_QUALITY,
}
CRISPNESS = 0.45
"""How much of their difference from their surroundings is added to the colours of a JPEG."""
SURROUNDINGS = (5, 5)


def encoded(pixels: Pixels, kind: EncodeFormat, quality: int, *, crisp: bool) -> bytes:
    """RGB pixels as a file of this format. crisp: sharpen what JPEG blurs. Raises ImageError encode_failed."""
    if max(pixels.shape) > LONGEST_SIDE[kind]:
        raise ImageError("encode_failed", f"a side is longer than the {LONGEST_SIDE[kind]} pixels of a {kind}")
    # OpenCV encodes JPEGs, too: simplejpeg computes coarsely below quality 96 and loses a quarter of a dB.
    shown = _crisp_colours(pixels) if crisp and kind == "jpg" else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(f".{kind}", shown, [_QUALITY[kind], quality])
    if not done:
        raise ImageError("encode_failed", f"cannot be written as {kind}")
    return bytes(data.tobytes())


def _crisp_colours(pixels: Pixels) -> Any:
    """RGB to BGR, its colours sharpened, its brightness as it was."""
    before = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)
    crisp = np.asarray(cv2.addWeighted(before, 1 + CRISPNESS, cv2.blur(before, SURROUNDINGS), -CRISPNESS, 0))
    cv2.insertChannel(cv2.extractChannel(before, 0), crisp, 0)
    return cv2.cvtColor(crisp, cv2.COLOR_YCrCb2BGR)
