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
from tarloom.format.storage.local import LocalStorage
from tarloom.format.storage.mapped import WINDOW_BYTES, MappedFile
from tarloom.format.storage.packing import views_in
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


_Read = tuple[dict[str, Binary | list[bytes | None]], pa.Buffer, Sequence[memoryview]]
"""Members by name; headers one behind the other; what lies in front of some of them."""


class Members:
    """Reads members of the rows of a piece. Those that are `apart` are wanted as bytes objects, if that costs less.

    mapped: they are to stay where they lie in a local tar, if that can be mapped.
    """

    def __init__(
        self, piece: Piece, index: ShardIndex, rows: Rows, *, apart: Collection[str] = (), mapped: bool = False
    ) -> None:
        self._piece, self._index, self._rows = piece, index, rows
        self._source = tar_ranges(piece.storage, piece.tar)
        self._places = {member: _places(index, member, rows.numbers) for member in piece.view.members}
        self._apart, self._wants_mapped = apart, mapped
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
        wanted = Ranges.joined([found.take(found.sizes >= 0) for found in places.values()])
        keys = self._rows.keys.slice(first, last - first)
        names = member_names(keys, {m: found.sizes >= 0 for m, found in places.items()})
        headers, extended = wanted.offsets - BLOCK, extended_names(names)
        fronts = self._fronts(headers[extended])
        can_lie = self._wants_mapped and wanted.sizes.max(initial=0) < WINDOW_BYTES
        file = self._file if can_lie else None
        if file is None:
            values, blocks, parts = self._packed(places, headers, fronts)
        else:
            file.prepare(Ranges(offsets=headers, sizes=BLOCK + wanted.sizes))
            values, blocks, parts = _viewed(file, places, headers, fronts)
        check_headers(
            self._piece, self._index, blocks, names, wanted.sizes, dict(zip(extended.tolist(), parts, strict=True))
        )
        return values

    def _packed(self, places: Mapping[str, Ranges], headers: np.ndarray, fronts: Ranges) -> _Read:
        """Copies of members, of the headers in front of them, and of what lies in front of some headers."""
        present = [found.take(found.sizes >= 0) for found in places.values()]
        apart = [i for i, m in enumerate(places) if m in self._apart and _is_large(present[i].sizes)]
        blocks = Ranges(offsets=headers, sizes=np.full(len(headers), BLOCK))
        *read, proofs, parts = self._source.read_values(self._piece.tar.name, [*present, blocks, fronts], apart)
        assert isinstance(proofs, pa.Buffer)
        assert isinstance(parts, pa.Buffer)
        values = {m: _in_rows(values, p.sizes) for (m, p), values in zip(places.items(), read, strict=True)}
        return values, proofs, views_in(parts, fronts)

    @lazy
    def _file(self) -> MappedFile | None:
        """The tar, where members can stay in it."""
        storage, name = self._piece.storage, self._piece.tar.name
        if isinstance(storage, LocalStorage) and compression_of(name) is None:
            return MappedFile(storage, name)
        return None

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


def _viewed(file: MappedFile, places: Mapping[str, Ranges], headers: np.ndarray, fronts: Ranges) -> _Read:
    """As `_packed`; members stay in the file."""
    values = {member: Binary(file.views(found)) for member, found in places.items()}
    return {**values}, file.blocks(headers, BLOCK), file.parts(fronts)


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
