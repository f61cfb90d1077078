"""The members of a piece's rows: where they lie by the index, and their bytes, each proven by its header.

The headers in front of members lie between what is read anyway. So every one is looked at, and no sample gets bytes
that are another's, whatever happened to the tar since its index was made.
"""

import contextlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa

from tarloom.errors import CorruptShard, TruncatedShard
from tarloom.format.arrow_types import Array
from tarloom.format.index import ShardIndex
from tarloom.format.index_load import tar_reader
from tarloom.format.layout import compression_of
from tarloom.format.lazy import lazy
from tarloom.format.storage.base import Values
from tarloom.format.storage.ranges import Ranges
from tarloom.format.tar.block import BLOCK
from tarloom.format.tar.compressed import tar_ranges
from tarloom.format.tar.headers import Headers, ReadAt
from tarloom.read.columns.join import Rows
from tarloom.read.plan.pieces import Piece
from tarloom.read.samples.binary import Binary, packed_array
from tarloom.read.samples.trust import check_headers, extended_names, member_names

_APART_BYTES = 4 << 10
"""On average: to copy smaller values out of what is read takes less time than to read each to a place of its own."""
_FRONT_BYTES = 64 << 10
"""In front of a header, read with it: more is no name, but a file of no sample."""


class Members:
    """Reads members of the rows of a piece. Those that are `apart` are wanted as bytes objects, if that costs less."""

    def __init__(self, piece: Piece, index: ShardIndex, rows: Rows, *, apart: Collection[str] = ()) -> None:
        self._piece, self._index, self._rows = piece, index, rows
        self._source = tar_ranges(piece.storage, piece.tar)
        self._places = {member: _places(index, member, rows.numbers) for member in piece.view.members}
        self._apart = apart
        end = max((int(places.ends.max(initial=0)) for places in self._places.values()), default=0)
        if compression_of(piece.tar.name) is None and end > piece.tar.size:
            raise TruncatedShard(f"{piece.url}: ends before its members do; copy it again or make it anew")

    def sizes(self) -> np.ndarray:
        """Bytes of each row's members together: int64 of shape (rows,)."""
        nothing = np.zeros(len(self._rows.numbers), np.int64)
        return sum((np.maximum(places.sizes, 0) for places in self._places.values()), nothing)

    def read(self, first: int, last: int) -> dict[str, Binary | list[bytes | None]]:
        """Of the rows from `first` up to `last`, by name. Raises StaleIndex, StorageError."""
        places = {member: found.take(slice(first, last)) for member, found in self._places.items()}
        present = [found.take(found.sizes >= 0) for found in places.values()]
        read = self._read_proven(first, last, places, present)
        return {m: _in_rows(values, p.sizes) for (m, p), values in zip(places.items(), read, strict=True)}

    def _read_proven(
        self, first: int, last: int, places: Mapping[str, Ranges], present: Sequence[Ranges]
    ) -> Sequence[Values]:
        """Members with the headers in front of them."""
        wanted = Ranges.joined(present)
        headers = Ranges(offsets=wanted.offsets - BLOCK, sizes=np.full(len(wanted), BLOCK))
        names = member_names(
            self._rows.keys.slice(first, last - first), {m: found.sizes >= 0 for m, found in places.items()}
        )
        extended = extended_names(names)
        fronts = self._fronts(headers.offsets[extended])
        apart = [i for i, m in enumerate(places) if m in self._apart and _is_large(present[i].sizes)]
        *values, blocks, parts = self._source.read_values(self._piece.tar.name, [*present, headers, fronts], apart)
        assert isinstance(blocks, pa.Buffer)
        assert isinstance(parts, pa.Buffer)
        check_headers(self._piece, self._index, blocks, names, wanted.sizes, _by_number(extended, fronts, parts))
        return values

    def _fronts(self, headers: np.ndarray) -> Ranges:
        """What lies between these headers and the members before them; nothing where that is more than headers are."""
        if not len(headers):
            return Ranges(offsets=headers, sizes=headers)
        starts = self._ends[np.searchsorted(self._ends, headers, side="right") - 1]
        for i in np.flatnonzero(headers - starts > _FRONT_BYTES).tolist():
            starts[i] = self._behind_files(int(starts[i]), int(headers[i]))
        sizes = headers - starts
        return Ranges(offsets=starts, sizes=np.where(sizes > _FRONT_BYTES, 0, sizes))

    def _behind_files(self, start: int, header: int) -> int:
        """Where the last of the files ends that lie from `start` on, before a header, and belong to no sample."""
        with contextlib.suppress(CorruptShard):  # it ends in the middle: what is there is looked at with the header
            headers = Headers(self._read_at, header, self._piece.url, start=start)
            for _ in headers:
                start = headers.offset
        return start

    @lazy
    def _read_at(self) -> ReadAt:
        return tar_reader(self._piece.storage, self._piece.tar)

    @lazy
    def _ends(self) -> np.ndarray:
        """Where the index has members end, the padding behind them included, and where the tar begins; in order."""
        rows = np.arange(self._index.rows)
        ends = [_places(self._index, member, rows).ends for member in self._index.extensions]
        return np.unique(np.concatenate([[0], *(-(-end // BLOCK) * BLOCK for end in ends)]))


def _is_large(sizes: np.ndarray) -> bool:
    return bool(sizes.sum() >= _APART_BYTES * len(sizes) > 0)


def _in_rows(values: Values, sizes: np.ndarray) -> Binary | list[bytes | None]:
    """The values that are there, in rows of which others lack one. sizes: -1 for these."""
    if isinstance(values, pa.Buffer):
        return Binary(packed_array(values, sizes))
    if len(values) == len(sizes):
        return [*values]
    left = iter(values)
    return [None if size < 0 else next(left) for size in sizes.tolist()]


def _by_number(numbers: np.ndarray, ranges: Ranges, packed: pa.Buffer) -> dict[int, memoryview]:
    """Ranges that lie one behind the other, by the numbers of their headers."""
    data = memoryview(packed)
    bounds = zip(numbers.tolist(), ranges.places.tolist(), ranges.sizes.tolist(), strict=True)
    return {number: data[place : place + size] for number, place, size in bounds}


def _places(index: ShardIndex, member: str, numbers: np.ndarray) -> Ranges:
    """Where these rows' members lie; size -1 where a sample lacks it."""
    if member not in index.extensions:
        return Ranges(offsets=np.zeros(len(numbers), np.int64), sizes=np.full(len(numbers), -1, np.int64))
    return Ranges(
        offsets=_as_int64(index.offsets(member), 0)[numbers], sizes=_as_int64(index.sizes(member), -1)[numbers]
    )


def _as_int64(column: Array, null: int) -> np.ndarray:
    values: np.ndarray = (column.fill_null(null) if column.null_count else column).to_numpy(zero_copy_only=False)
    return values
