"""Tar shards as they are read: a fast walk over the headers of any sound tar, and how names become samples.

The walk follows PAX and GNU extensions, and it never ends early in silence: what is not sound raises.

Where a tar ends: at its first all-zero block, as every reader has it. A tar without that block which ends exactly
behind a member is read by tarfile and webdataset alike, so `walk` takes it too unless `strict` is set.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tarloom.errors import CorruptShard, TruncatedShard

BLOCK = 512
RECORD = 20 * BLOCK
"""Archives are padded to a multiple of this, as tar and tarfile do."""
MAX_EXTENSION_BYTES = 16 << 20
"""No honest name or PAX record is larger; a damaged size must not fill the memory."""

ReadAt = Callable[[int, int], bytes | memoryview]
"""Bytes from (offset, size); fewer only where the file ends."""

LARGEST_OCTAL = 8**11 - 1
"""A larger size does not fit a plain header: it stands in a PAX record, or in binary."""
_ZEROS = bytes(BLOCK)
_SPLIT = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
_SKIPPED = re.compile(r"__[^/]*__(?:/|\Z)|(?:.*/)?__MACOSX/|(?:.*/)?\.[^/]*\Z", re.DOTALL)
_REGULAR = b"0\x007"
_WITHOUT_DATA = b"123456"
"""Links, devices, folders and pipes: a size in their header does not mean that data follows."""
_EXTENSIONS = b"xgXLK"
"""PAX headers for the next member, for all that follow, Solaris's; GNU's long names and long link targets."""
_REPAIR = "copy the shard again or make it anew"


class Member(NamedTuple):
    """A regular file in a tar. (A named tuple, not a dataclass: the walk makes hundreds of thousands a second.)"""

    name: str
    offset: int
    """Of its data, in bytes from the start of the tar."""
    size: int
    mtime: int = 0
    """Seconds since 1970, from the plain header."""


def split_name(name: str) -> tuple[str, str] | None:
    """The sample's key and the member's extension: split at the first dot of the base name, the extension lower-case.

    As webdataset splits, folder included in the key. None for what belongs to no sample: no dot, hidden files, folders
    named like __this__ at the top, and what macOS adds.
    """
    match = _SPLIT.fullmatch(name)
    if match is None or _SKIPPED.match(name):
        return None
    return match[1], match[2].lower()


def is_of_a_sample(name: str) -> bool:
    """Whether a file in a tar belongs to a sample."""
    return split_name(name) is not None


def walk(read_at: ReadAt, size: int, where: str, *, strict: bool = False) -> Iterator[Member]:
    """The regular files of a tar, in order, from its headers alone.

    read_at: bytes from an offset; asked for one block at a time, forwards. size: of the tar in bytes. where: its
    address, for messages. strict: also demand the two zero blocks at the end, and nothing but zeros behind them.
    Raises TruncatedShard where the tar ends too early, CorruptShard for anything else that is not sound.
    """
    headers = _Headers(read_at, size, where)
    offset = 0
    while (block := headers.block(offset)) is not None:
        kind = block[156:157]
        if kind in _EXTENSIONS:
            offset = headers.extend(kind, block, offset)
            continue
        member, offset = headers.member(kind, block, offset)
        if member is not None:
            yield member
    headers.check_end(offset, strict=strict)


class _Headers:
    """Reads the header blocks of one tar; holds the extension headers that apply to what comes next."""

    def __init__(self, read_at: ReadAt, size: int, where: str) -> None:
        self._read_at = read_at
        self._size = size
        self._where = where
        self._everywhere: dict[str, str] = {}
        self._pending: dict[str, str] = {}

    def block(self, offset: int) -> bytes | None:
        """The header at this offset, its checksum proven; None at a zero block or the end of the file."""
        if offset == self._size:
            return None
        block = bytes(self._read_at(offset, BLOCK))
        if len(block) < BLOCK:
            raise self._truncated(offset)
        if block == _ZEROS:
            return None
        stated, found = _number(block[148:156]), header_checksum(block)
        if stated != found and stated != found - _signed_difference(block):
            raise self._corrupt("no tar header, or a damaged one,", offset)
        return block

    def extend(self, kind: bytes, block: bytes, offset: int) -> int:
        """Take in an extension header; where the next header is."""
        size = self._number(block[124:136], offset)
        if not 0 <= size <= MAX_EXTENSION_BYTES:
            raise self._corrupt(f"extension header of {size} bytes", offset)
        end = offset + BLOCK + size + -size % BLOCK
        if end > self._size:
            raise self._truncated(offset)
        body = bytes(self._read_at(offset + BLOCK, size))
        if kind == b"L":
            self._pending["path"] = _text(body)
        elif kind == b"g":
            self._everywhere |= self._pax(body, offset)
        elif kind in b"xX":
            self._pending |= self._pax(body, offset)
        return end

    def member(self, kind: bytes, block: bytes, offset: int) -> tuple[Member | None, int]:
        """The member of a plain header (None for what is not a regular file), and where the next header is."""
        start = offset + BLOCK
        extra = self._everywhere | self._pending if self._everywhere else self._pending
        self._pending = {}
        size = self._number(block[124:136], offset) if "size" not in extra else self._decimal(extra["size"], offset)
        end = start if kind in _WITHOUT_DATA else start + size + -size % BLOCK
        if size < 0 or kind == b"S":
            raise self._corrupt(f"member of size {size} and type {kind!r}", offset)
        if end > self._size:
            raise self._truncated(offset)
        if kind not in _REGULAR:
            return None, end
        name = extra.get("path") or _plain_name(block)
        if kind == b"\0" and name.endswith("/"):  # how archives older than ustar mark a folder
            return None, end
        return Member(name, start, size, self._number(block[136:148], offset)), end

    def check_end(self, offset: int, *, strict: bool) -> None:
        """Raise unless the archive may end at this offset."""
        if self._pending or self._size == 0 or (strict and self._size - offset < 2 * BLOCK):
            raise self._truncated(offset)
        if not strict:
            return
        for start in range(offset, self._size, 2 * RECORD):
            rest = bytes(self._read_at(start, min(2 * RECORD, self._size - start)))
            if rest.count(0) != len(rest):
                raise self._corrupt("data behind the end of the archive,", start)

    def _pax(self, body: bytes, offset: int) -> dict[str, str]:
        """The records of a PAX header that bear on where data lies and what it is called."""
        found: dict[str, str] = {}
        position = 0
        while position < len(body) and body[position]:
            digits, _, _ = body[position : position + 20].partition(b" ")
            length = self._decimal(digits.decode("latin-1"), offset)
            keyword, equals, value = body[position + len(digits) + 1 : position + length - 1].partition(b"=")
            if not equals or body[position + length - 1 : position + length] != b"\n":
                raise self._corrupt("malformed PAX record", offset)
            if keyword.startswith(b"GNU.sparse"):
                raise self._corrupt("sparse member", offset)
            if keyword in (b"path", b"size"):
                found[keyword.decode()] = value.decode(errors="surrogateescape").rstrip("/")
            position += length
        return found

    def _number(self, field: bytes, offset: int) -> int:
        """A numeric field: octal digits, or binary where its first bit is set."""
        if field[0] & 0x80:
            return int.from_bytes(field, signed=True) if field[0] & 0x40 else int.from_bytes(field[1:])
        digits = field.partition(b"\0")[0].strip() or b"0"
        if not digits.isdigit() or b"8" in digits or b"9" in digits:
            raise self._corrupt(f"no tar header, or one with the number {digits!r},", offset)
        return int(digits, 8)

    def _decimal(self, digits: str, offset: int) -> int:
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise self._corrupt(f"number {digits!r} in a PAX record", offset)
        return int(digits)

    def _truncated(self, offset: int) -> TruncatedShard:
        what = f"ends at byte {self._size} before the member or end mark at byte {offset} is complete"
        return TruncatedShard(f"{self._where}: {what}; {_REPAIR}")

    def _corrupt(self, what: str, offset: int) -> CorruptShard:
        return CorruptShard(f"{self._where}: {what} at byte {offset}; {_REPAIR}")


def header_checksum(block: bytes) -> int:
    """The sum of a header's bytes, with its checksum field (bytes 148 to 155) counted as spaces."""
    return _byte_sum(block[:256]) + _byte_sum(block[256:]) - _byte_sum(block[148:156]) + 8 * ord(" ")


def _byte_sum(data: bytes) -> int:
    """The sum of at most 256 bytes: the low half of their Adler-32, ten times faster than sum().

    That half is the sum modulo 65521, which 256 bytes cannot reach.
    """
    return zlib.adler32(data, 0) & 0xFFFF


def _signed_difference(block: bytes) -> int:
    """How much less the checksum is to old programs, which take bytes above 127 for negative numbers."""
    return 256 * sum(byte > 127 for byte in block[:148] + block[156:])


def header_is_of(block: bytes, *, name: str, size: int) -> bool:
    """Whether a header block can be that of this member. A name too long for it, or not ASCII, is not compared."""
    if len(block) != BLOCK or block[156:157] not in _REGULAR:
        return False
    if size <= LARGEST_OCTAL and _number(block[124:136]) != size:
        return False
    return len(name) > 99 or not name.isascii() or _plain_name(block).lower() == name.lower()


def _number(field: bytes) -> int | None:
    """A numeric field: octal digits, or binary where its first bit is set; None where it is neither."""
    if field[0] & 0x80:
        return int.from_bytes(field, signed=True) if field[0] & 0x40 else int.from_bytes(field[1:])
    digits = field.partition(b"\0")[0].strip() or b"0"
    return int(digits, 8) if digits.isdigit() and b"8" not in digits and b"9" not in digits else None


def _plain_name(block: bytes) -> str:
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:
        return f"{_text(block[345:500])}/{name}"
    return name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="surrogateescape")
