"""A cheap look at the tar itself before an index of it is believed."""

from collections.abc import Sequence

import numpy as np

from tarloom.errors import StaleIndex, TruncatedShard
from tarloom.format.index import ShardIndex, scan_index
from tarloom.format.layout import index_name
from tarloom.format.tar import BLOCK
from tarloom.read.pieces import Piece

_REGULAR = b"0\x007"
_LARGEST_OCTAL = 8**11 - 1


def check_members(piece: Piece, index: ShardIndex, member: str, *, offsets: np.ndarray, sizes: np.ndarray) -> None:
    """Look at the headers in front of the piece's first and last members of one extension.

    offsets, sizes: int64 of shape (rows,) for the piece's rows, size -1 where absent. Raises TruncatedShard where the
    tar is shorter than the index says, StaleIndex where another member lies there.
    """
    present = np.flatnonzero(sizes >= 0)
    if not len(present):
        return
    if int((offsets + sizes).max()) > piece.tar.size:
        raise TruncatedShard(f"{piece.url}: ends before its members do; copy it again or make it anew")
    ends = sorted({int(present[0]), int(present[-1])})
    starts = [int(offsets[i]) - BLOCK for i in ends]
    headers = piece.storage.read_ranges(piece.tar.name, starts, [BLOCK] * len(ends))
    names = [f"{index.keys[piece.first + i].as_py()}.{member}" for i in ends]
    if not _are_of(headers, names, [int(sizes[i]) for i in ends]) and not _is_current(piece, index):
        where = piece.storage.describe(index_name(piece.shard))
        raise StaleIndex(f"{piece.url}: was changed after its index was made; remove {where} and open it again")


def _are_of(headers: Sequence[memoryview], names: Sequence[str], sizes: Sequence[int]) -> bool:
    return all(header_is_of(bytes(h), name=n, size=s) for h, n, s in zip(headers, names, sizes, strict=True))


def header_is_of(header: bytes, *, name: str, size: int) -> bool:
    """Whether a header block can be that of this member. A name too long for it, or not ASCII, is not compared."""
    if len(header) != BLOCK or header[156:157] not in _REGULAR:
        return False
    if size <= _LARGEST_OCTAL and _octal(header[124:136]) != size:
        return False
    encoded = name.encode(errors="surrogateescape")
    return len(encoded) > 99 or not encoded.isascii() or _plain_name(header).lower() == encoded.lower()


def _plain_name(header: bytes) -> bytes:
    name, prefix = header[:100].partition(b"\0")[0], header[345:500].partition(b"\0")[0]
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    return int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else -1


def _is_current(piece: Piece, index: ShardIndex) -> bool:
    """The slow proof, for tars whose plain headers carry other names than their PAX headers: walk it all again."""
    fresh = scan_index(piece.storage, piece.shard)
    return bool(fresh.table.equals(index.table))
