"""The members of a piece's rows: where they lie by the index, and their bytes, each proven by its header.

The headers in front of members lie between what is read anyway. So every one is looked at, and no sample gets bytes
that are another's, whatever happened to the tar since its index was made.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from tarloom.errors import TruncatedShard
from tarloom.format.arrow_types import Array
from tarloom.format.index import ShardIndex
from tarloom.format.layout import compression_of
from tarloom.format.storage.ranges import Ranges
from tarloom.format.tar.compressed import tar_ranges
from tarloom.format.tar.walk import BLOCK
from tarloom.read.columns.join import Rows
from tarloom.read.plan.pieces import Piece
from tarloom.read.samples.binary import Binary, packed_array
from tarloom.read.samples.trust import check_headers, member_names


class Members:
    """Reads members of the rows of a piece."""

    def __init__(self, piece: Piece, index: ShardIndex, rows: Rows) -> None:
        self._piece, self._index, self._rows = piece, index, rows
        self._source = tar_ranges(piece.storage, piece.tar)
        self._places = {member: _places(index, member, rows.numbers) for member in piece.view.members}
        end = max((int(places.ends.max(initial=0)) for places in self._places.values()), default=0)
        if compression_of(piece.tar.name) is None and end > piece.tar.size:
            raise TruncatedShard(f"{piece.url}: ends before its members do; copy it again or make it anew")

    def sizes(self) -> np.ndarray:
        """Bytes of each row's members together: int64 of shape (rows,)."""
        nothing = np.zeros(len(self._rows.numbers), np.int64)
        return sum((np.maximum(places.sizes, 0) for places in self._places.values()), nothing)

    def read(self, first: int, last: int) -> dict[str, Binary]:
        """Of the rows from `first` up to `last`, by name. Raises StaleIndex, StorageError."""
        places = {member: found.take(slice(first, last)) for member, found in self._places.items()}
        present = [found.take(found.sizes >= 0) for found in places.values()]
        buffers = self._read_proven(first, last, places, present)
        return {m: Binary(packed_array(b, p.sizes)) for (m, p), b in zip(places.items(), buffers, strict=True)}

    def _packed(self, groups: Sequence[Ranges]) -> Sequence[pa.Buffer]:
        return self._source.read_packed(self._piece.tar.name, groups) if groups else []

    def _read_proven(
        self, first: int, last: int, places: Mapping[str, Ranges], present: Sequence[Ranges]
    ) -> Sequence[pa.Buffer]:
        """Members with the headers in front of them."""
        wanted = Ranges.joined(present)
        headers = Ranges(offsets=wanted.offsets - BLOCK, sizes=np.full(len(wanted), BLOCK))
        *buffers, blocks = self._packed([*present, headers])
        names = member_names(
            self._rows.keys.slice(first, last - first), {m: found.sizes >= 0 for m, found in places.items()}
        )
        check_headers(self._piece, self._index, blocks, names, wanted.sizes)
        return buffers


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
