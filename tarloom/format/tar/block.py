"""One header block of a tar: its fields and its checksum; and what a PAX header says in records."""

import zlib

BLOCK = 512
LARGEST_OCTAL = 8**11 - 1
"""A larger size does not fit a plain header: it stands in a PAX record, or in binary."""
LONGEST_NAME = 4096
"""Bytes of a member's name, as systems have for paths. Names that are compared at once take as much as the longest."""
REGULAR = b"0\x007"
ZEROS = bytes(BLOCK)
_BINARY = (0x80, 0xFF)
"""How numbers begin that are no digits: positive, negative."""


def is_header(block: bytes) -> bool:
    """Whether a block is a header with a right checksum. (Old programs took bytes above 127 for negative numbers.)"""
    if len(block) != BLOCK or block == ZEROS:
        return False
    stated, found = number(block[148:156]), header_checksum(block)
    return stated == found or stated == found - _signed_difference(block)


def header_checksum(block: bytes) -> int:
    """The sum of a header's bytes, with its checksum field (bytes 148 to 155) counted as spaces."""
    return _byte_sum(block[:256]) + _byte_sum(block[256:]) - _byte_sum(block[148:156]) + 8 * ord(" ")


def header_is_of(block: bytes, *, name: str, size: int) -> bool:
    """Whether a header block is that of this member, by what it says itself: what precedes it may say otherwise."""
    if len(block) != BLOCK or block[156:157] not in REGULAR:
        return False
    if size <= LARGEST_OCTAL and number(block[124:136]) != size:
        return False
    return plain_name(block).lower() == name.lower()


def number(field: bytes) -> int | None:
    """A numeric field: octal digits, or binary where its first bit is set; None where it is neither."""
    if field[0] & 0x80:
        if field[0] not in _BINARY:
            return None
        return int.from_bytes(field, signed=True) if field[0] == 0xFF else int.from_bytes(field[1:])
    digits = field.partition(b"\0")[0].strip() or b"0"
    return int(digits, 8) if digits.isdigit() and b"8" not in digits and b"9" not in digits else None


def plain_name(block: bytes) -> str:
    """The name as a header holds it, its prefix in front."""
    name = text(block[:100])
    return f"{text(block[345:500])}/{name}" if block[345] else name


def text(field: bytes) -> str:
    """A field up to its first NUL. What is not UTF-8 comes as surrogates."""
    return field.partition(b"\0")[0].decode(errors="surrogateescape")


def _byte_sum(data: bytes) -> int:
    """The sum of at most 256 bytes: the low half of their Adler-32, ten times faster than sum().

    That half is the sum modulo 65521, which 256 bytes cannot reach.
    """
    return zlib.adler32(data, 0) & 0xFFFF


def _signed_difference(block: bytes) -> int:
    """How much less the checksum is to old programs."""
    return 256 * sum(byte > 127 for byte in block[:148] + block[156:])


def pax_record(keyword: bytes, value: bytes) -> bytes:
    """Of a PAX header: "LENGTH keyword=value\\n", where LENGTH counts itself."""
    rest = b" %s=%s\n" % (keyword, value)
    length = len(rest)
    while len(rest) + len(b"%d" % length) != length:
        length = len(rest) + len(b"%d" % length)
    return b"%d%s" % (length, rest)
