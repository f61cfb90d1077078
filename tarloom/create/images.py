"""Pictures in, pictures of the wanted size and format out. Every failure is an ImageError with one of a few names.

JPEGs are decoded at the smallest scale that the result can be made from well (1/8 to 1, by the format's own
transform), then reduced by area; everything else goes through Pillow. The pixel count is checked in the header, before
anything is decoded. Sizes are img2dataset's for each resize mode, except that EXIF orientation is applied: they are
what one sees.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import ExifTags, Image

from tarloom.create.config import ImageOptions
from tarloom.create.exif import exif_json
from tarloom.create.rows import Picture
from tarloom.errors import ImageError
from tarloom.format.pictures import (
    WHITE,
    Pixels,
    Size,
    as_rgb,
    check_pixels,
    decode_jpeg,
    jpeg_size,
    opened,
)

DECODE_MARGIN = 1.5
"""A JPEG is decoded at this many times the wanted size or more, where it has as much. Reducing by area from less than
that loses 4 dB against reducing from full size; from this on, under 1 dB."""
LONGEST_SIDE = {"jpg": 65_500, "png": 1_000_000, "webp": 16_383}
"""What the encoders take, in pixels."""

Image.MAX_IMAGE_PIXELS = None  # Our own limit, max_pixels, is checked right after the header is read.
cv2.setNumThreads(1)  # Pictures are worked on side by side; threads within one small picture only cost time.


@dataclass(frozen=True, kw_only=True)
class _Decoded:
    pixels: Pixels
    original: Size
    exif: Image.Exif


def process_picture(data: bytes, options: ImageOptions) -> Picture:
    """Decode, orient, check, resize and encode one picture. Raises ImageError."""
    decoded = _decode(data, options)
    pixels = resize(decoded.pixels, decoded.original, options)
    return Picture(
        data=_encode(pixels, options),
        width=pixels.shape[1],
        height=pixels.shape[0],
        original_width=decoded.original[1],
        original_height=decoded.original[0],
        exif=exif_json(decoded.exif),
    )


def target_size(original: Size, options: ImageOptions) -> Size:
    """What a picture of this size is scaled to, before padding or cropping."""
    if options.resize_mode == "no":
        return original
    shorter = options.resize_mode in ("keep_ratio", "center_crop")
    side = min(original) if shorter else max(original)
    if options.resize_only_if_bigger and side <= options.image_size:
        return original
    scale = options.image_size / side
    return max(1, round(original[0] * scale)), max(1, round(original[1] * scale))


def resize(pixels: Pixels, original: Size, options: ImageOptions) -> Pixels:
    """Bring a picture, decoded at full or at a smaller scale, to its final size.

    original: the size that the picture has at full scale.
    """
    target = target_size(original, options)
    if pixels.shape[:2] != target:
        reduces = target[0] < pixels.shape[0] or target[1] < pixels.shape[1]
        method = cv2.INTER_AREA if reduces else cv2.INTER_LANCZOS4
        pixels = _pixels(cv2.resize(pixels, (target[1], target[0]), interpolation=method))
    if options.resize_only_if_bigger and target == original:
        return pixels
    if options.resize_mode == "border":
        return _pad(pixels, options.image_size)
    if options.resize_mode == "center_crop":
        return _crop(pixels, options.image_size)
    return pixels


def _pad(pixels: Pixels, size: int) -> Pixels:
    missing_rows, missing_columns = size - pixels.shape[0], size - pixels.shape[1]
    top, left = missing_rows // 2, missing_columns // 2
    sides = (top, missing_rows - top, left, missing_columns - left)
    return _pixels(cv2.copyMakeBorder(pixels, *sides, borderType=cv2.BORDER_CONSTANT, value=WHITE))


def _crop(pixels: Pixels, size: int) -> Pixels:
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])


def _decode(data: bytes, options: ImageOptions) -> _Decoded:
    stored = jpeg_size(data) if data[:2] == b"\xff\xd8" else None
    return _decode_other(data, options) if stored is None else _decode_jpeg(data, stored, options)


def _decode_jpeg(data: bytes, stored: Size, options: ImageOptions) -> _Decoded:
    exif = _jpeg_exif(data)
    orientation = _orientation(exif)
    original = _turned(stored, orientation)
    check_pixels(original, options.max_pixels)
    _check_size(original, options)
    height, width = _turned(target_size(original, options), orientation)
    pixels = decode_jpeg(data, at_least=(math.ceil(DECODE_MARGIN * height), math.ceil(DECODE_MARGIN * width)))
    return _Decoded(pixels=_oriented(pixels, orientation), original=original, exif=exif)


def _decode_other(data: bytes, options: ImageOptions) -> _Decoded:
    with opened(data, max_pixels=options.max_pixels) as image:
        image.load()  # TIFF and AVIF are turned while they load: orientation is asked for afterwards.
        exif = _pillow_exif(image)
        pixels = _oriented(as_rgb(image), _orientation(exif))
    original = (pixels.shape[0], pixels.shape[1])
    _check_size(original, options)
    return _Decoded(pixels=pixels, original=original, exif=exif)


def _check_size(size: Size, options: ImageOptions) -> None:
    shorter, longer, area = min(size), max(size), size[0] * size[1]
    if shorter < max(1, options.min_image_size):
        raise ImageError("too_small", f"the shorter side is under {max(1, options.min_image_size)} pixels")
    if area > options.max_image_area:
        raise ImageError("area_too_large", f"more than {options.max_image_area:g} pixels")
    if longer / shorter > options.max_aspect_ratio:
        raise ImageError("aspect_ratio_too_large", f"longer than {options.max_aspect_ratio:g} times its shorter side")
    check_pixels(target_size(size, options), options.max_pixels)  # a line of pixels may be scaled to a bomb


def _encode(pixels: Pixels, options: ImageOptions) -> bytes:
    kind, quality = options.encode_format, options.encode_quality
    if max(pixels.shape) > LONGEST_SIDE[kind]:
        raise ImageError("encode_failed", f"a side is longer than the {LONGEST_SIDE[kind]} pixels of a {kind}")
    if kind == "jpg":
        return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality, colorsubsampling="420"))
    flag = cv2.IMWRITE_PNG_COMPRESSION if kind == "png" else cv2.IMWRITE_WEBP_QUALITY
    done, data = cv2.imencode(f".{kind}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [flag, quality])
    if not done:
        raise ImageError("encode_failed", f"cannot be written as {kind}")
    return bytes(data.tobytes())


def _turned(size: Size, orientation: int) -> Size:
    return (size[1], size[0]) if orientation >= 5 else size


def _oriented(pixels: Pixels, orientation: int) -> Pixels:
    """Undo the camera's rotation and mirroring: EXIF orientations 1 to 8."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _orientation(exif: Image.Exif) -> int:
    value = exif.get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _jpeg_exif(data: bytes) -> Image.Exif:
    """The EXIF block of a JPEG, found by walking its segments up to the picture; empty where there is none."""
    exif = Image.Exif()
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] not in (0xDA, 0xD9):
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position + 1] == 0xE1 and data[position + 4 : position + 10] == b"Exif\0\0":
            return _load_exif(exif, data[position + 4 : position + 2 + length])
        position += 2 + max(2, length)
    return exif


def _load_exif(exif: Image.Exif, block: bytes) -> Image.Exif:
    try:
        exif.load(block)
    except Exception:  # Cameras and editors write all kinds of EXIF; a broken block is none, not a failed row.
        return Image.Exif()
    return exif


def _pillow_exif(image: Image.Image) -> Image.Exif:
    try:
        return image.getexif()
    except Exception:  # As above.
        return Image.Exif()


def _pixels(array: Any) -> Pixels:
    return np.asarray(array, dtype=np.uint8)
