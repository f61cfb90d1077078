"""A tar writer whose bytes depend on its input alone.

It makes plain ustar archives with fixed owner, mode and time; a PAX header comes only before a member whose name is too
long or not ASCII, or whose size is above 8 GiB.
"""

import hashlib
from typing import IO

from tarloom.errors import UsageError
from tarloom.format.tar.block import BLOCK, LARGEST_OCTAL, LONGEST_NAME, ZEROS, header_checksum, pax_record
from tarloom.format.tar.headers import RECORD

_SMALL_BYTES = 64 << 10
"""To copy so much is cheaper than to write and hash it in three parts."""


class TarWriter:
    """Appends members to a tar; the same members in the same order give the same bytes.

    The file is only written to, never sought or closed. `size` and `sha256` are of all that was written so far.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of everything written."""
        return self._hash.hexdigest()

    def add(self, name: str, data: bytes | memoryview) -> int:
        """Append a member and return the offset of its data. Raises UsageError for a name that no tar can hold."""
        size = len(data) if isinstance(data, bytes) else data.nbytes
        headers, padding = _headers(name, size), ZEROS[: -size % BLOCK]
        offset = self.size + len(headers)
        if size <= _SMALL_BYTES:
            self._write(b"".join((headers, data, padding)))
        else:
            for part in (headers, data, padding):
                self._write(part)
        return offset

    def close(self) -> None:
        """Write the end of the archive: two zero blocks, padded to a whole record."""
        self._write(bytes(2 * BLOCK + -(self.size + 2 * BLOCK) % RECORD))

    def _write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data) if isinstance(data, bytes) else data.nbytes


def _headers(name: str, size: int) -> bytes:
    """The header block of a member, with a PAX header in front where the plain one cannot hold name or size."""
    encoded = _encoded(name)
    place = _ustar_place(encoded)
    if place is not None and size <= LARGEST_OCTAL:
        return _header(*place, size, b"0")
    records = b"" if place else pax_record(b"path", encoded)
    records += b"" if size <= LARGEST_OCTAL else pax_record(b"size", b"%d" % size)
    stand_in = (b"", name.encode("ascii", "replace")[:100])
    extension = _header(b"", b"././@PaxHeader", len(records), b"x") + records + ZEROS[: -len(records) % BLOCK]
    return extension + _header(*(place or stand_in), size if size <= LARGEST_OCTAL else 0, b"0")


def _encoded(name: str) -> bytes:
    try:
        encoded = name.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"member name {name!r} is not Unicode text; rename the file") from error
    if not name or "\0" in name or name.endswith("/"):
        raise UsageError(f"member name {name!r} is empty, holds a NUL or ends with a slash; rename the file")
    if len(encoded) > LONGEST_NAME:
        raise UsageError(
            f"member name {name[:40]!r}... has {len(encoded)} bytes, more than {LONGEST_NAME}; rename the file"
        )
    return encoded


def _ustar_place(name: bytes) -> tuple[bytes, bytes] | None:
    """(prefix, name) as a ustar header holds them; None where it cannot."""
    if not name.isascii():
        return None
    if len(name) <= 100:
        return b"", name
    slash = name.find(b"/", len(name) - 101)
    if slash < 1 or slash > 155 or slash == len(name) - 1:
        return None
    return name[:slash], name[slash + 1 :]


def _header(prefix: bytes, name: bytes, size: int, kind: bytes) -> bytes:
    """One block: mode 0644, owner 0, time 0."""
    start = name.ljust(100, b"\0") + b"0000644\x000000000\x000000000\x00%011o\x0000000000000\x00" % size
    end = kind.ljust(101, b"\0") + b"ustar\x0000" + bytes(80) + prefix.ljust(167, b"\0")
    checksum = header_checksum(start + bytes(8) + end)
    return start + b"%06o\x00 " % checksum + end
