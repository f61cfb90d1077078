"""Picture bytes to RGB arrays: safe for bytes from anywhere, and fast for the JPEGs that shards mostly hold."""

from functools import lru_cache
from typing import NamedTuple

from PIL import Image, ImageOps

from tarloom.format.jpeg import SCAN_MARKER, check_scans, jpeg_head, jpeg_segments
from tarloom.format.pictures import (
    FORMATS,
    Pixels,
    Size,
    as_rgb,
    check_pixels,
    decode_jpeg,
    drop_long_exif,
    jpeg_size,
    opened,
)

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded."""
READ_FORMATS = (*FORMATS, "PPM")
"""Shards made by others may hold PPM; creation never does."""
_JPEG = b"\xff\xd8\xff"


def decode_rgb(data: bytes | memoryview, *, max_pixels: int = MAX_PIXELS, at_least: int = 0) -> Pixels:
    """The picture's first frame as uint8 of shape (height, width, 3), upright, transparent parts over white.

    at_least: a JPEG may be decoded at a smaller scale (down to an eighth), as long as both sides keep this many
    pixels; 0 for full size. Raises ImageError: not_an_image, truncated, corrupt_image, unsupported_image or
    too_many_pixels.
    """
    if plain_jpeg_size(data, max_pixels=max_pixels) is not None:
        return decode_jpeg(data, at_least=(at_least, at_least))
    with opened(bytes(data), max_pixels=max_pixels, formats=READ_FORMATS) as image:
        image.load()
        drop_long_exif(image)
        return as_rgb(ImageOps.exif_transpose(image))


class PlainJpeg(NamedTuple):
    """A picture that needs nothing but decode_jpeg."""

    size: Size
    rows_at: int
    """See jpeg.Segments."""


def plain_jpeg(data: bytes | memoryview, *, max_pixels: int = MAX_PIXELS) -> PlainJpeg | None:
    """What its decoders need; None for all other pictures. Raises ImageError too_many_pixels, too_many_scans."""
    found = _by_head(jpeg_head(data)) or _by_walk(bytes(data))
    if found is not None:
        check_pixels(found.size, max_pixels)
    return found


def plain_jpeg_size(data: bytes | memoryview, *, max_pixels: int = MAX_PIXELS) -> Size | None:
    """The size alone. Raises as plain_jpeg does."""
    found = plain_jpeg(data, max_pixels=max_pixels)
    return None if found is None else found.size


def _by_walk(data: bytes) -> PlainJpeg | None:
    segments = jpeg_segments(data) if data.startswith(_JPEG) else None
    if segments is None or segments.exif:
        return None
    size = jpeg_size(data)
    if size is None:
        return None
    check_scans(data, segments)
    return PlainJpeg(size, segments.rows_at)


@lru_cache(maxsize=1024)
def _by_head(head: bytes) -> PlainJpeg | None:
    """The same, remembered: pictures that one program made begin alike. None where the head alone does not tell."""
    segments = jpeg_segments(head)
    if segments.first_scan != head.find(SCAN_MARKER) or segments.several_scans:
        return None
    return _by_walk(head)


def decode_pil(data: bytes | memoryview) -> Image.Image:
    """The same pixels as decode_rgb's, as a Pillow image of mode RGB. Raises ImageError."""
    return Image.fromarray(decode_rgb(data))
