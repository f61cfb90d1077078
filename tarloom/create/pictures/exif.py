"""EXIF tags as texts, under img2dataset's names: "Image Make", "EXIF ExposureTime", "GPS GPSLatitude".

Ratios are written as such ("1/125"), several values in brackets ("[52, 30, 3/2]"), as img2dataset does. What the
standard numbers stays a number: an Orientation is "6", where img2dataset writes the words of its library.
"""

import json
from math import gcd
from struct import Struct
from typing import Any

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

LONGEST_VALUE = 256
_TAGS = ExifTags.TAGS | {
    0x9214: "SubjectArea",
    0x9290: "SubSecTime",
    0x9291: "SubSecTimeOriginal",
    0x9292: "SubSecTimeDigitized",
    0xA003: "ExifImageLength",
    0xA005: "InteroperabilityOffset",
}
"""Names by number; those of cameras' tags that Pillow calls otherwise."""
_GPS_TAGS = ExifTags.GPSTAGS | {0x1D: "GPSDate"}
_LEFT_OUT = frozenset({0x02BC, 0x927C, 0x9286})
"""XMP, the maker's own notes and the user's comment: img2dataset writes none of them either."""

_PNG_START = 8
_PNG_CHUNK = Struct(">I4s")
"""Its length without this, and its kind; behind it come four bytes to check it by."""


def png_exif(data: bytes) -> bytes | None:
    """The EXIF block of a PNG, before or behind its pixels (chunk eXIf of PNG, third edition, 11.3.4.4)."""
    place = _PNG_START
    while place + _PNG_CHUNK.size <= len(data):
        size, kind = _PNG_CHUNK.unpack_from(data, place)
        place += _PNG_CHUNK.size
        if kind == b"eXIf":
            return data[place : place + size]
        place += size + 4
    return None


def exif_json(exif: Image.Exif | None) -> str:
    """A picture's tags by name, as a JSON object. Of a broken block, what stands before the break."""
    if exif is None:
        return "{}"
    found: dict[str, str] = {}
    parts: tuple[tuple[str, Any, Any], ...] = (
        ("Image", lambda: exif, _TAGS),
        ("EXIF", lambda: exif.get_ifd(ExifTags.IFD.Exif), _TAGS),
        ("GPS", lambda: exif.get_ifd(ExifTags.IFD.GPSInfo), _GPS_TAGS),
    )
    try:
        for prefix, read, names in parts:
            tags = read()
            wanted = (tag for tag in tags if tag in names and tag not in _LEFT_OUT)
            found.update({f"{prefix} {names[tag]}": _text(tags[tag]) for tag in wanted})
    except Exception:  # Cameras and editors write all kinds of EXIF; a broken block is no failed row.
        return json.dumps(found)
    return json.dumps(found)


def _text(value: object) -> str:
    if isinstance(value, bytes) and not _is_text(value):
        value = tuple(value[:LONGEST_VALUE])
    if isinstance(value, tuple) and len(value) != 1:
        return f"[{', '.join(map(_one, value[:LONGEST_VALUE]))}]"[:LONGEST_VALUE]
    return _one(value[0] if isinstance(value, tuple) else value)[:LONGEST_VALUE]


def _is_text(value: bytes) -> bool:
    """Tags of bytes hold texts, such as a version ("0230"), or numbers; a zero alone is a number."""
    text = value.rstrip(b"\0")
    return text.isascii() and text.decode("ascii").isprintable() and bool(text) == bool(value)


def _one(value: object) -> str:
    if isinstance(value, IFDRational):
        above, below = int(value.numerator), int(value.denominator)
        shared = gcd(above, below) if below else 1
        return str(above // shared) if below == shared else f"{above // shared}/{below // shared}"
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return text.strip("\0 ")
