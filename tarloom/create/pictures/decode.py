"""A picture's bytes to its pixels, upright, and what else is to be known of it.

JPEGs go through simplejpeg, at the smallest scale of the format's own (1/8 to 1) that the result can be made from well;
everything else goes through Pillow. Pixels are counted in the header, before anything is decoded.
"""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import ExifTags, Image

from tarloom.create.pictures.colour import changes_colours
from tarloom.create.pictures.exif import png_exif
from tarloom.create.pictures.scale import Resize, Shape
from tarloom.errors import ImageError
from tarloom.format.jpeg import check_scans, jpeg_segments
from tarloom.format.pictures import (
    JpegHeader,
    Pixels,
    Size,
    as_rgb,
    check_pixels,
    decode_jpeg,
    drop_long_exif,
    jpeg_header,
    opened,
)

SMALLER = (8, 4, 2)
"""JPEGs can be decoded so many times smaller at once: each pixel is the mean of those in its place."""
DECODE_MARGIN = 1.8
"""A JPEG is decoded at this many times the wanted size or more, where it has as much. Reducing by area from less than
that is seen: beside reducing from full size, 1.6 times loses a quarter of a dB, 1.5 times three quarters."""
COARSE_COLOUR_FROM = 1.5
"""Times the wanted size: a JPEG of this and more is decoded without smoothing its colours, which would be added up
again at once: faster, and a tenth of a dB better."""
_JPEG = b"\xff\xd8"
_SMALLEST: Size = (1, 1)
_FOUR_COLOURS = ("CMYK", "YCCK")
_NAMES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_PLAIN_MODES = ("RGB", "L", "P", "1")
_PNG_DEPTH = 24
"""Where a PNG says how many bits a value has."""

Image.MAX_IMAGE_PIXELS = None  # Our own limit, max_pixels, is checked right after the header is read.


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a picture before it is decoded."""

    format: str
    """jpg, png or webp; something else for other formats."""
    original: Size
    """Upright."""
    orientation: int
    """EXIF's: 1 for upright, to 8."""
    exif: Image.Exif | None
    profile: bytes
    """ICC; empty if there is none."""
    grey: bool
    cmyk: bool
    palette: bool
    """Of few colours, which may stand for others where they alternate."""
    plain: bool
    """Upright, opaque, a single frame of 8 bits and sRGB: every reader shows it right."""


class Source(Protocol):
    """A picture that is opened but, if it can be helped, not yet decoded."""

    @property
    def facts(self) -> Facts: ...

    def check(self) -> None:
        """Decode as little as shows that it can be decoded. Raises ImageError."""

    def scaled(self, shape: Shape, resize: Resize) -> Pixels:
        """RGB, or CMYK in four channels, upright, of this shape's scale. Raises ImageError."""
        ...


@contextmanager
def opened_picture(data: bytes, *, max_pixels: int) -> Iterator[Source]:
    """The picture in these bytes; decode it inside the block only. Raises ImageError."""
    header = jpeg_header(data) if data.startswith(_JPEG) else None
    if header is not None:
        check_pixels(header.size, max_pixels)
        yield _Jpeg(data, header)
        return
    with opened(data, max_pixels=max_pixels) as image:
        # TIFF and AVIF are turned while they load: orientation is asked for afterwards. OpenCV turns a TIFF, too, so
        # whoever found boxes in one saw the upright picture.
        image.load()
        drop_long_exif(image)
        yield _Other(image, data)


class _Jpeg:
    def __init__(self, data: bytes, header: JpegHeader) -> None:
        segments = jpeg_segments(data)
        check_scans(data, segments)
        exif = load_exif(segments.exif)
        turn = orientation_of(exif)
        grey, four = header.colours == "Gray", header.colours in _FOUR_COLOURS
        wrong_colours = four or changes_colours(segments.profile, 1 if grey else 3)
        self._data = data
        self._size = header.size
        self.facts = Facts(
            format="jpg",
            original=_turned(header.size, turn),
            orientation=turn,
            exif=exif,
            profile=segments.profile,
            grey=grey,
            cmyk=four,
            palette=False,
            plain=turn == 1 and not wrong_colours,
        )

    def check(self) -> None:
        self._pixels(at_least=_SMALLEST, coarse_colour=True)

    def scaled(self, shape: Shape, resize: Resize) -> Pixels:
        (rows, columns), wanted = self._size, _turned(shape.scaled, self.facts.orientation)
        ratio = min(rows / wanted[0], columns / wanted[1]) if shape.method == "area" else 1
        smaller = next((times for times in SMALLER if ratio >= DECODE_MARGIN * times), 1)
        covered = rows / smaller, columns / smaller
        at_least = math.ceil(covered[0]), math.ceil(covered[1])
        pixels = self._pixels(at_least=at_least, coarse_colour=ratio >= COARSE_COLOUR_FROM)
        # Turned afterwards: what is not covered lies on the right and below.
        return _oriented(resize(pixels, wanted, shape.method, covered), self.facts.orientation)

    def _pixels(self, *, at_least: Size, coarse_colour: bool) -> Pixels:
        if not self.facts.cmyk:
            return decode_jpeg(self._data, at_least=at_least, coarse_colour=coarse_colour)
        # Those who write CMYK write it as Adobe does, ink from 255 down to 0.
        return 255 - decode_jpeg(self._data, at_least=at_least, colours="CMYK", coarse_colour=coarse_colour)


class _Other:
    def __init__(self, image: Image.Image, data: bytes) -> None:
        exif = _pillow_exif(image)
        turn = orientation_of(exif)
        profile = image.info.get("icc_profile") or b""
        grey = image.mode in ("L", "LA", "1", "I", "F") or image.mode.startswith("I;16")
        channels = 4 if image.mode == "CMYK" else 1 if grey else 3
        deep = image.format == "PNG" and data[_PNG_DEPTH] > 8
        plain = image.mode in _PLAIN_MODES and not deep and not image.has_transparency_data
        self._image = image
        self.facts = Facts(
            format=_NAMES.get(image.format or "", ""),
            original=_turned((image.height, image.width), turn),
            orientation=turn,
            exif=exif,
            profile=profile,
            grey=grey,
            cmyk=image.mode == "CMYK",
            palette=image.mode in ("P", "PA"),
            plain=plain and turn == 1 and _is_single(image) and not changes_colours(profile, channels),
        )

    def check(self) -> None:
        """It is decoded already."""

    def scaled(self, shape: Shape, resize: Resize) -> Pixels:
        pixels = np.array(self._image) if self.facts.cmyk else as_rgb(self._image)
        wanted = _turned(shape.scaled, self.facts.orientation)
        return _oriented(resize(pixels, wanted, shape.method, pixels.shape[:2]), self.facts.orientation)


def _is_single(image: Image.Image) -> bool:
    """Whether it has one frame. Those of other formats are not kept as they are, and could take long to count."""
    return image.format in _NAMES and getattr(image, "n_frames", 1) == 1


def load_exif(block: bytes) -> Image.Exif | None:
    """EXIF from a block with its "Exif" header; None where it is empty or broken."""
    if not block:
        return None
    exif = Image.Exif()
    try:
        exif.load(block)
    except Exception:  # Cameras and editors write all kinds of EXIF; a broken block is none, not a failed row.
        return None
    return exif


def _pillow_exif(image: Image.Image) -> Image.Exif | None:
    try:
        return image.getexif()
    except Exception:  # As above.
        return None


def stored_exif(data: bytes) -> Image.Exif | None:
    """EXIF of a picture that is not decoded, of whatever it can be found in; None for what is no picture."""
    if data.startswith(_JPEG):
        return load_exif(jpeg_segments(data).exif)
    try:
        with opened(data, max_pixels=sys.maxsize) as image:
            if image.format == "PNG":  # which would be decoded, to see what lies behind its pixels
                image.info.setdefault("exif", png_exif(data))
            drop_long_exif(image)
            return Image.Image.getexif(image)
    except ImageError:
        return None


def orientation_of(exif: Image.Exif | None) -> int:
    """1 to 8; 1 where nothing sensible is said."""
    value = None if exif is None else exif.get(ExifTags.Base.Orientation)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


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
