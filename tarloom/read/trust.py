"""A cheap look at the tar itself before an index of it is believed."""

from collections.abc import Sequence

import numpy as np

from tarloom.errors import StaleIndex, TruncatedShard
from tarloom.format.index import ShardIndex
from tarloom.format.index_load import scan_index
from tarloom.format.layout import compression_of, index_name
from tarloom.format.tar import BLOCK, header_is_of
from tarloom.read.pieces import Piece


def check_members(
    piece: Piece, index: ShardIndex, member: str, *, numbers: np.ndarray, offsets: np.ndarray, sizes: np.ndarray
) -> None:
    """Look at the headers in front of the first and last members of one extension that are to be read.

    numbers, offsets, sizes: int64 of shape (rows,): the rows' numbers in the shard; size -1 where absent. Raises
    TruncatedShard where the tar is shorter than the index says, StaleIndex where another member lies there.
    """
    present = np.flatnonzero(sizes >= 0)
    if not len(present) or compression_of(piece.tar.name):  # decompression proves its bytes
        return
    if int((offsets + sizes).max()) > piece.tar.size:
        raise TruncatedShard(f"{piece.url}: ends before its members do; copy it again or make it anew")
    ends = sorted({int(present[0]), int(present[-1])})
    starts = [int(offsets[i]) - BLOCK for i in ends]
    headers = piece.storage.read_ranges(piece.tar.name, starts, [BLOCK] * len(ends))
    names = [f"{index.keys[int(numbers[i])].as_py()}.{member}" for i in ends]
    if not _are_of(headers, names, [int(sizes[i]) for i in ends]) and not _is_current(piece, index):
        where = piece.storage.describe(index_name(piece.shard))
        raise StaleIndex(f"{piece.url}: was changed after its index was made; remove {where} and open it again")


def _are_of(headers: Sequence[memoryview], names: Sequence[str], sizes: Sequence[int]) -> bool:
    return all(header_is_of(bytes(h), name=n, size=s) for h, n, s in zip(headers, names, sizes, strict=True))


def _is_current(piece: Piece, index: ShardIndex) -> bool:
    """The slow proof, for tars whose plain headers carry other names than their PAX headers: walk it all again."""
    fresh = scan_index(piece.storage, piece.shard)
    return bool(fresh.table.equals(index.table))
