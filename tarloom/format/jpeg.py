"""What a JPEG says before its picture begins, read in one walk over its segments. Nothing is decoded here."""

import re
from dataclasses import dataclass
from struct import Struct

from tarloom.errors import ImageError

MAX_SCANS = 100
"""Scans of a progressive JPEG; cameras and programs write about 10. Each costs a pass over all of the picture, though
it may hold next to nothing: a file of some KB could keep a decoder busy for hours."""

_START = b"\xff\xd8"
SCAN_MARKER = b"\xff\xda"
_SHORT_HEAD = 4096
"""Bytes: tables, and the profiles that most programs write."""
_EXIF = b"Exif\0\0"
_PROFILE = b"ICC_PROFILE\0"
_PROFILE_HEADER = len(_PROFILE) + 2
"""Its name, the number of this part, and how many there are."""
_SEGMENT = Struct(">BBH")
"""The mark, what kind of segment it is, and its length with these two bytes of it."""
_FILL = re.compile(rb"\xff+")
_MARK, _END, _SCAN, _APP1, _APP2 = 0xFF, 0xD9, 0xDA, 0xE1, 0xE2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset({0xC0, 0xC1})
"""Their one scan has the picture's rows one behind the other."""
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_TELLING = _FRAMES | {_APP1, _APP2}
"""The kinds that are looked into."""


@dataclass(frozen=True, kw_only=True)
class Segments:
    """What the segments in front of a JPEG's first scan say."""

    exif: bytes = b""
    """The EXIF block with its "Exif" header."""
    profile: bytes = b""
    """The ICC profile."""
    first_scan: int = 0
    """Where the picture begins."""
    several_scans: bool = False
    """Is it made of more than one scan?"""
    rows_at: int = 0
    """Where two bytes say how many rows there are, if the picture lies row by row; else 0."""


def jpeg_segments(data: bytes) -> Segments:
    """Walk the segments up to the picture; what is broken or missing there is left empty."""
    exif, profile = b"", list[bytes]()  # parts, of which there may be millions
    components, several, rows_at = 0, False, 0
    position = 2 if data.startswith(_START) else len(data)
    while position + _SEGMENT.size <= len(data):
        mark, kind, length = _SEGMENT.unpack_from(data, position)
        if mark != _MARK or kind == _END:
            break
        if kind == _SCAN:
            several = several or data[min(position + 4, len(data) - 1)] < components
            break
        if kind == _MARK or kind in _WITHOUT_LENGTH:
            position = _last_of_fill(data, position) if kind == _MARK else position + 2
            continue
        start, end = position + 4, position + 2 + length
        position = max(end, start)
        if kind not in _TELLING:
            continue
        if kind == _APP1 and not exif and data.startswith(_EXIF, start):
            exif = data[start:end]
        elif kind == _APP2 and data.startswith(_PROFILE, start):
            profile.append(data[start + _PROFILE_HEADER : end])
        elif kind in _FRAMES and end <= len(data):
            components, several = data[min(start + 5, len(data) - 1)], kind in _PROGRESSIVE
            rows_at = start + 1 if kind in _SEQUENTIAL else 0
    return Segments(
        exif=exif,
        profile=b"".join(profile),
        first_scan=position,
        several_scans=several,
        rows_at=0 if several else rows_at,
    )


def jpeg_head(data: bytes | memoryview) -> bytes:
    """The bytes up to the end of what looks like the header of the first scan, where they are few; else none."""
    start = bytes(data[:_SHORT_HEAD])
    header = start.find(SCAN_MARKER) + len(SCAN_MARKER)
    end = header + int.from_bytes(start[header : header + 2])
    return start[:end] if SCAN_MARKER in start and header + 2 <= end <= len(start) else b""


def _last_of_fill(data: bytes, position: int) -> int:
    """Where the mark is that ends the bytes that only fill; there may be millions, which look like marks, too."""
    found = _FILL.match(data, position)
    return position + 1 if found is None else found.end() - 1


def check_scans(data: bytes, segments: Segments) -> None:
    """Raises ImageError too_many_scans."""
    if segments.several_scans and data.count(SCAN_MARKER, segments.first_scan) > MAX_SCANS:
        raise ImageError("too_many_scans", f"a progressive JPEG of more than {MAX_SCANS} scans")
