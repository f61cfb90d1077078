"""Pixels from a picture's bytes, whoever made them: what packing and reading have in common.

JPEGs go through simplejpeg, everything else through Pillow. Every failure is an ImageError with one of a few names, and
pixels are counted before anything is decoded.
"""

import io
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TiffImageFile

from tarloom.errors import ImageError
from tarloom.format.jpeg import check_scans, jpeg_segments

Pixels = npt.NDArray[np.uint8]
"""RGB, shape (height, width, 3)."""
Size = tuple[int, int]
"""Height, width."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Others are not opened: some of Pillow's readers start programs."""
LONGEST_EXIF = 1 << 20
"""Bytes. A JPEG's has 64 KiB at most; of others' Pillow would make an object of every few bytes."""
WHITE = (255, 255, 255)
WHITE_IS_ZERO = "white_is_zero"
"""Noted with an opened TIFF that says so: Pillow inverts those of up to 8 bits alone."""
_EXTRANEOUS = "extraneous bytes"
"""What libjpeg says of bytes that it passed over."""

warnings.filterwarnings("ignore", module=r"PIL\.")  # Odd metadata, for every such picture: none of it is lost data.
Image.init()  # Once, before threads open pictures: Pillow knows a format only when its reader is loaded.


def check_pixels(size: Size, max_pixels: int) -> None:
    """Raises ImageError too_many_pixels."""
    if size[0] * size[1] > max_pixels:
        raise ImageError("too_many_pixels", f"more than {max_pixels} pixels")


def jpeg_size(data: bytes) -> Size | None:
    """The size of a JPEG that simplejpeg decodes to RGB; None for CMYK, unusual samplings, and what is no JPEG."""
    header = jpeg_header(data)
    return None if header is None or header.colours in ("CMYK", "YCCK") else header.size


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What simplejpeg sees of a JPEG before it decodes it."""

    size: Size
    colours: str
    """YCbCr, RGB, Gray, CMYK or YCCK."""


def jpeg_header(data: bytes) -> JpegHeader | None:
    """None for unusual samplings, and for what is no JPEG."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError):  # KeyError: a header that ends before it names its sampling
        return None
    return JpegHeader((height, width), colours)


def decode_jpeg(
    data: bytes | memoryview,
    *,
    at_least: Size = (0, 0),
    colours: Literal["RGB", "CMYK"] = "RGB",
    coarse_colour: bool = False,
    memory: npt.NDArray[np.uint8] | None = None,
) -> Pixels:
    """Decode at the smallest of the format's own scales (1/2 to 1/8) that keeps at least this size; (0, 0): in full.

    coarse_colour: do not smooth colour that is stored at half the size; faster, and as good where the picture is made
    half as large or less anyway. memory: to decode into; at least the picture's size. Raises ImageError truncated,
    unsupported_image or corrupt_image.
    """
    # Scales between 1 and 1/2 take longer to decode than the whole: min_factor leaves them out.
    scale: dict[str, int] = {"min_height": at_least[0], "min_width": at_least[1], "min_factor": 2}
    decode = partial(
        simplejpeg.decode_jpeg, data, colorspace=colours, fastupsample=coarse_colour, buffer=memory, **scale
    )
    try:
        return _leniently(decode)
    except ValueError as error:
        raise _named(error) from error


def decode_top(
    data: bytes | memoryview, size: Size, *, rows_at: int, memory: npt.NDArray[np.uint8] | None = None
) -> Pixels:
    """A JPEG's first rows, in full: what lies below them is skipped, undecoded.

    size: so many rows, as wide as the picture. rows_at: see jpeg.Segments; not 0. memory: see decode_jpeg. The last row
    may differ from the whole picture's, where colours are smoothed downwards, too. Raises as decode_jpeg does.
    """
    shape = (*size, 3)
    pixels = np.empty(shape, np.uint8) if memory is None else memory[: math.prod(shape)].reshape(shape)
    shorter = bytearray(data)
    shorter[rows_at : rows_at + 2] = size[0].to_bytes(2, "big")
    try:
        simplejpeg.decode_jpeg(shorter, colorspace="RGB", buffer=pixels)
    except ValueError as error:  # libjpeg tells of what it finds first: of the rows below, if all others are well
        if _EXTRANEOUS not in str(error):
            raise _named(error) from error
    return pixels


def _named(error: ValueError) -> ImageError:
    """What simplejpeg raised, by one of our names."""
    text = str(error).lower()
    if "premature end" in text:
        return ImageError("truncated", "the JPEG ends before its picture does")
    if "unsupported" in text:
        return ImageError("unsupported_image", "a rare kind of JPEG: lossless, or of 12 bits")
    return ImageError("corrupt_image", "the JPEG's data cannot be decoded")


def _leniently(decode: Callable[..., Pixels]) -> Pixels:
    """Decode strictly, but let pass what harms nothing: bytes between the segments, which many cameras leave."""
    try:
        return decode()
    except ValueError as error:
        if _EXTRANEOUS not in str(error):
            raise
        return decode(strict=False)


@contextmanager
def opened(data: bytes, *, max_pixels: int, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """The picture in Pillow; whatever its readers raise inside the block comes out as an ImageError."""
    try:
        check_scans(data, jpeg_segments(data))
        with Image.open(io.BytesIO(data), formats=formats) as image:
            check_pixels((image.height, image.width), max_pixels)
            if isinstance(image, TiffImageFile):
                image.info[WHITE_IS_ZERO] = image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("not_an_image", "the bytes are no picture in a known format") from error
    except Image.DecompressionBombError as error:
        raise ImageError("too_many_pixels", "far more than Pillow opens") from error
    except Exception as error:  # Pillow's readers raise whatever their parsers stumble over.
        cut = isinstance(error, EOFError) or (isinstance(error, OSError) and "truncated" in str(error))
        name = "truncated" if cut else "corrupt_image"
        raise ImageError(name, "the picture's data cannot be decoded") from error


def drop_long_exif(image: Image.Image) -> None:
    """Forget EXIF that is too long to be one. It is known when the picture is loaded: PNGs may have it behind it."""
    if len(image.info.get("exif") or b"") > LONGEST_EXIF:
        del image.info["exif"]


def as_rgb(image: Image.Image) -> Pixels:
    """The first frame as RGB: transparent parts over white, more than 8 bits scaled to 8."""
    if image.mode.startswith("I") or image.mode == "F":
        return np.repeat(_eight_bits(image)[..., None], 3, axis=2)
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        image = Image.new("RGB", clear.size, WHITE)
        image.paste(clear, mask=clear.getchannel("A"))
    return np.array(image.convert("RGB"))


def _eight_bits(image: Image.Image) -> Pixels:
    """Grey of 16 or 32 bits or of floats. Where the format does not say what is white, the values do: 1, 255 or 65535,
    the lowest of them that no value exceeds."""
    deep = np.nan_to_num(np.asarray(image).astype(np.float64))
    highest = deep.max(initial=0)
    white = 65535.0 if image.mode.startswith("I;16") or highest > 255 else 255.0
    if image.mode == "F" and highest <= 1:
        white = 1.0
    if image.mode.startswith("I;16") and image.info.get(WHITE_IS_ZERO):
        deep = white - deep
    return np.clip(np.rint(deep * (255 / white)), 0, 255).astype(np.uint8)
