"""Pixels to a picture's bytes."""

import cv2

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


def encoded(pixels: Pixels, kind: EncodeFormat, quality: int) -> bytes:
    """RGB pixels as a file of this format. Raises ImageError encode_failed."""
    if max(pixels.shape) > LONGEST_SIDE[kind]:
        raise ImageError("encode_failed", f"a side is longer than the {LONGEST_SIDE[kind]} pixels of a {kind}")
    # OpenCV encodes JPEGs, too: simplejpeg computes coarsely below quality 96 and loses a quarter of a dB.
    done, data = cv2.imencode(f".{kind}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [_QUALITY[kind], quality])
    if not done:
        raise ImageError("encode_failed", f"cannot be written as {kind}")
    return bytes(data.tobytes())
