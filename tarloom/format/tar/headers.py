"""The header blocks of a tar, one after the other: ustar, and its extensions by GNU and PAX.

Where readers of other makers would differ (two extension headers that name one member differently, a global header
between a member and its own, ...), there is no right answer: such a tar is refused.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tarloom.errors import CorruptShard, TruncatedShard
from tarloom.format.tar.block import BLOCK, LONGEST_NAME, REGULAR, ZEROS, is_header, number, plain_name, text

RECORD = 20 * BLOCK
"""Archives are padded to a multiple of this, as tar and tarfile do."""
MAX_EXTENSION_BYTES = 16 << 20
"""No honest name or PAX record is larger; a damaged size must not fill the memory."""
REMEDY = "copy the shard again, or save what is whole in it with: tarloom repair"

ReadAt = Callable[[int, int], bytes | memoryview]
"""Bytes from (offset, size); fewer only where the file ends."""

_HARD_LINK = b"1"
_LINKS = b"12"
_WITHOUT_DATA = b"123456"
"""Links, devices, folders and pipes: a size in their header does not mean that data follows."""
_EXTENSIONS = b"xgXLK"
"""PAX headers for the next member, for all that follow, Solaris's; GNU's long names and long link targets."""
_GNU_MAGIC = b"ustar  \0"
_CHARSETS = (b"BINARY", b"ISO-IR 10646 2000 UTF-8")
"""Of the names in PAX headers: both mean bytes that are UTF-8 where they can be."""


class Member(NamedTuple):
    """A regular file in a tar. (A named tuple, not a dataclass: the walk makes hundreds of thousands a second.)"""

    name: str
    offset: int
    """Of its data, in bytes from the start of the tar."""
    size: int
    mtime: int = 0
    """Seconds since 1970, from the plain header."""


class Link(NamedTuple):
    """A link in a tar. Readers leave it out, as webdataset does: it has no bytes of its own."""

    name: str
    target: str
    """A name in the same tar if it is hard; else a path from the link's folder."""
    is_hard: bool


class Headers:
    """Walks over the header blocks of one archive; holds the extension headers that apply to what comes next.

    read_at: asked forwards. size: of the tar in bytes; None where it is not known before its end is reached: `read_at`
    then raises TruncatedShard where it is asked for what lies behind the end. start: where the archive begins.
    """

    def __init__(self, read_at: ReadAt, size: int | None, where: str, *, start: int = 0) -> None:
        self._read_at = read_at
        self._size = size
        self._where = where
        self._everywhere: dict[str, str] = {}
        self._pending: dict[str, str] = {}
        self._is_extended = self._is_awaited = False
        """Whether any header, or one that is not global, stands in front of the next member."""
        self._start = start
        self.offset = start
        """Of the header that comes next; in the end, of what ends the archive."""
        self.cut: str | None = None
        """The name of a member whose data ends too early."""

    def __iter__(self) -> Iterator[Member | Link]:
        """Files and links, in order. Raises TruncatedShard where the tar ends too early, CorruptShard for all else."""
        while (block := self._block()) is not None:
            kind = block[156:157]
            if kind in _EXTENSIONS:
                self._extend(kind, block)
                continue
            found = self._entry(kind, block)
            if found is not None:
                yield found
        if self._is_extended or self.offset == self._start == self._size:
            raise self._truncated()

    def check_end(self) -> None:
        """Raise unless two zero blocks end the archive, and nothing but zeros follows."""
        at = self.offset
        while at != self._size and (rest := bytes(self._read_at(at, 2 * RECORD))):
            if rest.count(0) != len(rest):
                zeros = len(rest) - len(rest.lstrip(b"\0"))
                raise self._data_behind_the_end(at + zeros - zeros % BLOCK, rest[zeros - zeros % BLOCK :][:BLOCK])
            at += len(rest)
        if at - self.offset < 2 * BLOCK:
            raise self._truncated()

    def _block(self) -> bytes | None:
        """The header that comes next, its checksum proven; None at a zero block or the end of the file."""
        if self.offset == self._size:
            return None
        block = bytes(self._read_at(self.offset, BLOCK))
        if len(block) < BLOCK:
            if not block and self._size is None and self.offset > self._start:
                return None
            self._size = self._size if self._size is not None else self.offset + len(block)
            raise self._truncated()
        if block == ZEROS:
            return None
        if not is_header(block):
            raise self._corrupt(f"no tar header, or a damaged one,{_hint(block) if not self.offset else ''}")
        return block

    def _extend(self, kind: bytes, block: bytes) -> None:
        """Take in an extension header."""
        size = self._number(block[124:136])
        if not 0 <= size <= MAX_EXTENSION_BYTES:
            raise self._corrupt(f"extension header of {size} bytes")
        end = self.offset + BLOCK + size + -size % BLOCK
        if self._is_behind_end(end):
            raise self._truncated()
        padded = bytes(self._read_at(self.offset + BLOCK, end - self.offset - BLOCK))
        body = padded[:size]
        if padded.count(0, size) != len(padded) - size:  # some readers would take it for more of the body
            raise self._corrupt("data behind the body of an extension header")
        if kind == b"g":
            if self._is_awaited:
                raise self._corrupt("global PAX header between a member and its own")
            self._everywhere |= self._pax(body, is_global=True)
        elif kind in b"LK":
            self._await({"path" if kind == b"L" else "linkpath": self._long_name(body)})
            if kind == b"L" and "path" in self._everywhere:
                raise self._corrupt("GNU and global PAX headers that name one member")
        else:
            self._await(self._pax(body))
        self.offset, self._is_extended, self._is_awaited = end, True, kind != b"g"

    def _long_name(self, body: bytes) -> str:
        name = text(body)
        if not name:
            raise self._corrupt("extension header with an empty name")
        self._check_length(body.partition(b"\0")[0])
        return name

    def _check_length(self, name: bytes) -> None:
        if len(name) > LONGEST_NAME:
            raise self._corrupt(f"name of {len(name)} bytes, more than {LONGEST_NAME},")

    def _await(self, found: dict[str, str]) -> None:
        """Keep what an extension header says about the next member; two that differ leave readers to choose."""
        for name, value in found.items():
            if self._pending.setdefault(name, value) != value:
                raise self._corrupt(f"extension headers that differ in the {name} of one member")

    def _entry(self, kind: bytes, block: bytes) -> Member | Link | None:
        """What a plain header is of (None unless a regular file or a link); goes on to the next one."""
        extra = self._everywhere | self._pending if self._everywhere else self._pending
        self._pending, self._is_extended, self._is_awaited = {}, False, False
        start = self.offset + BLOCK
        size = int(extra["size"]) if "size" in extra else self._number(block[124:136])
        end = start if kind in _WITHOUT_DATA else start + size + -size % BLOCK
        if size < 0 or kind == b"S":
            raise self._corrupt(f"member of size {size} and type {kind!r}")
        name = extra.get("path") or plain_name(block)
        if block[345] and block[257:265] == _GNU_MAGIC:
            raise self._corrupt("times where other readers take them for a part of the name (a dump by GNU tar)")
        if self._is_behind_end(end):
            self.cut = name
            raise self._truncated()
        if kind not in REGULAR:
            self.offset = end
            return Link(name, self._target(extra, block), kind == _HARD_LINK) if kind in _LINKS else None
        mtime = self._number(block[136:148])
        is_folder = kind == b"\0" and self._is_old_folder(name, size, block)
        self.offset = end
        return None if is_folder else Member(name, start, size, mtime)

    def _is_old_folder(self, name: str, size: int, block: bytes) -> bool:
        """Whether a file is a folder, as archives older than ustar mark them: by a slash."""
        is_marked = text(block[:100]).endswith("/")
        if is_marked and (size or not name.endswith("/")):
            raise self._corrupt("folder that has data or another name")
        return name.endswith("/")

    def _target(self, extra: dict[str, str], block: bytes) -> str:
        return extra.get("linkpath") or text(block[157:257])

    def _is_behind_end(self, offset: int) -> bool:
        return self._size is not None and offset > self._size

    def _pax(self, body: bytes, *, is_global: bool = False) -> dict[str, str]:
        """The records of a PAX header that bear on where data lies and what it is called."""
        found: dict[str, str] = {}
        position = 0
        while position < len(body) and body[position]:
            digits, _, _ = body[position : position + 20].partition(b" ")
            length = self._decimal(digits.decode("latin-1"))
            keyword, equals, value = body[position + len(digits) + 1 : position + length - 1].partition(b"=")
            if not equals or body[position + length - 1 : position + length] != b"\n":
                raise self._corrupt("malformed PAX record")
            self._keep(found, keyword, value, is_global=is_global)
            position += length
        return found

    def _keep(self, found: dict[str, str], keyword: bytes, value: bytes, *, is_global: bool) -> None:
        if keyword.startswith(b"GNU.sparse"):
            raise self._corrupt("sparse member")
        if keyword == b"hdrcharset" and value not in _CHARSETS:
            raise self._corrupt(f"names in the unknown character set {value!r}")
        if keyword not in (b"path", b"size", b"linkpath"):
            return
        self._check_length(value)
        record = value.decode(errors="surrogateescape").rstrip("/")
        if not record or "\0" in record or (is_global and keyword == b"size"):
            raise self._corrupt(f"PAX record {keyword.decode()}={record!r}, which readers do not agree on,")
        found[keyword.decode()] = str(self._decimal(record)) if keyword == b"size" else record

    def _number(self, field: bytes) -> int:
        value = number(field)
        if value is None:
            raise self._corrupt(f"no tar header, or one with the number {field!r},")
        return value

    def _decimal(self, digits: str) -> int:
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise self._corrupt(f"number {digits!r} in a PAX record")
        return int(digits)

    def _truncated(self) -> TruncatedShard:
        what = f"ends at byte {self._size} before the member or end mark at byte {self.offset} is complete"
        return TruncatedShard(f"{self._where}: {what}; {REMEDY}")

    def _corrupt(self, what: str) -> CorruptShard:
        return CorruptShard(f"{self._where}: {what} at byte {self.offset}; {REMEDY}")

    def _data_behind_the_end(self, offset: int, block: bytes) -> CorruptShard:
        another = ", another archive that no reader sees," if is_header(block) else ""
        what = f"data behind the end of the archive{another} at byte {offset}"
        remedy = "make one of all that are in the file with: tarloom repair" if another else REMEDY
        return CorruptShard(f"{self._where}: {what}; {remedy}")


_MAGICS = {b"\x1f\x8b": ".tar.gz", b"\x28\xb5\x2f\xfd": ".tar.zst", b"BZh": ".tar.bz2", b"\xfd7zXZ\0": ".tar.xz"}


def _hint(block: bytes) -> str:
    """What a file may be that is called .tar and is none."""
    for magic, suffix in _MAGICS.items():
        if block.startswith(magic):
            return f" but compressed bytes (call it {suffix})"
    return ""
