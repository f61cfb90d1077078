"""Picture bytes to RGB arrays: safe for bytes from anywhere, and fast for the JPEGs that shards mostly hold."""

import io

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from tarloom.errors import ImageError

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
"""Others are not opened: some of Pillow's readers start programs."""
_JPEG = b"\xff\xd8\xff"
_EXIF = b"Exif\0\0"
_EXIF_WITHIN = 1 << 16
_WHITE = (255, 255, 255)

Image.init()  # Once, before threads open pictures: Pillow knows a format only when its reader is loaded.

Pixels = npt.NDArray[np.uint8]
"""RGB, shape (height, width, 3)."""


def decode_rgb(data: bytes | memoryview, *, max_pixels: int = MAX_PIXELS, at_least: int = 0) -> Pixels:
    """The picture's first frame as uint8 of shape (height, width, 3), upright, transparent parts over white.

    at_least: a JPEG may be decoded at a smaller scale (down to an eighth), as long as both sides keep this many
    pixels; 0 for full size. Raises ImageError: not_an_image, truncated_image, corrupt_image or too_many_pixels.
    """
    data = bytes(data)
    if data.startswith(_JPEG) and _EXIF not in data[:_EXIF_WITHIN] and _is_plain_jpeg(data, max_pixels):
        return _decode_jpeg(data, at_least)
    return _decode_other(data, max_pixels)


def _is_plain_jpeg(data: bytes, max_pixels: int) -> bool:
    """Whether simplejpeg decodes it to RGB. Pillow gets the rest: CMYK, unusual samplings, no JPEG after all."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError):  # KeyError: a header that ends before it names its sampling
        return False
    _check_pixels(height, width, max_pixels)
    return colours in ("YCbCr", "RGB", "Gray")


def _decode_jpeg(data: bytes, at_least: int) -> Pixels:
    scale = {"min_height": at_least, "min_width": at_least, "min_factor": 2} if at_least else {}
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", **scale)
    except ValueError as error:
        if "premature end" in str(error).lower():
            raise ImageError("truncated_image", "truncated_image: the JPEG ends before its picture does") from error
        if "extraneous bytes" not in str(error):
            raise ImageError("corrupt_image", "corrupt_image: the JPEG's data cannot be decoded") from error
        pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", **scale, strict=False)
    return pixels


def _decode_other(data: bytes, max_pixels: int) -> Pixels:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_pixels(image.height, image.width, max_pixels)
            return _as_rgb(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("not_an_image", "not_an_image: the bytes are no picture in a known format") from error
    except Image.DecompressionBombError as error:
        raise ImageError("too_many_pixels", "too_many_pixels: far more than Pillow opens") from error
    except Exception as error:  # Pillow's readers raise whatever their parsers stumble over.
        cut = "truncated" in str(error) or isinstance(error, EOFError)
        name = "truncated_image" if cut else "corrupt_image"
        raise ImageError(name, f"{name}: the picture's data cannot be decoded") from error


def _check_pixels(height: int, width: int, max_pixels: int) -> None:
    if height * width > max_pixels:
        raise ImageError("too_many_pixels", f"too_many_pixels: more than {max_pixels} pixels")


def _as_rgb(image: Image.Image) -> Pixels:
    """8 bits a channel; 16-bit grey is scaled, not cut off."""
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        image = Image.new("RGB", clear.size, _WHITE)
        image.paste(clear, mask=clear.getchannel("A"))
    return np.array(image.convert("RGB"))
