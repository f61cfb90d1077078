"""One table that is joined to a shard's samples, metadata or a sidecar: opened once, matched by key, read by columns.

A sample's row counts only where there is exactly one, in a table that was made for this version of the shard. Where the
table's keys are in the tar's order, as ours are, nothing is looked up.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import JoinError, ShardError, StaleSidecar
from tarloom.format.arrow_types import Array, ChunkedArray
from tarloom.format.index import KEY, ShardIndex
from tarloom.format.layout import metadata_name, sidecar_name
from tarloom.format.lazy import lazy
from tarloom.format.metadata import SUCCESS
from tarloom.format.parquet import ParquetTable, find_table
from tarloom.format.sidecar import check_fresh, info_in
from tarloom.read.columns.casts import as_type
from tarloom.read.plan.catalog import text_columns
from tarloom.read.plan.pieces import Piece
from tarloom.read.view import Column

ABSENT = -1


class JoinedTable:
    """The rows of a table that belong to a piece. stage: of the sidecar, None for the metadata.

    fields: columns that will be wanted, to be read at once.
    """

    def __init__(self, piece: Piece, index: ShardIndex, stage: str | None, fields: Sequence[str]) -> None:
        self._piece, self._index, self._stage = piece, index, stage
        self._name = metadata_name(piece.shard) if stage is None else sidecar_name(piece.shard, stage)
        self.where = piece.storage.describe(self._name)
        self._key = "key" if stage is None else KEY
        self._text_columns = text_columns(stage)
        self._fields = fields
        self._read: dict[str, ChunkedArray] = {}

    @lazy
    def lost(self) -> ShardError | None:
        """Why no row of it counts: it is not there, or is stale. Raises CorruptShard."""
        if self._table is None:
            what = "metadata" if self._stage is None else "sidecar"
            return JoinError(f"{self.where}: there is no such {what}, as other shards have; {self._advice}")
        if self._stage is not None:
            try:
                check_fresh(info_in(self._table, self.where, self._stage), self._index, self.where)
            except StaleSidecar as error:
                return error
        return None

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """The table's rows for these rows of the shard (int64), ABSENT where there is not exactly one."""
        found: np.ndarray = self._rows[numbers - self._piece.first]
        return found

    def problem(self, number: int) -> ShardError:
        """Why this row of the shard has no row in the table."""
        if self.lost is not None:
            return self.lost
        key = self._index.keys[number]
        if pc.is_in(pa.array([key]), value_set=self._doubled)[0].as_py():
            return JoinError(f"{self.where}: has more than one row for key {key}; {self._advice}")
        return JoinError(f"{self.where}: has no row for key {key} of {self._piece.url}; {self._advice}")

    def column(self, column: Column, numbers: np.ndarray) -> Array:
        """Its values for these rows of the shard, null where the table has no row for them."""
        if not len(numbers) or self.lost is not None:
            return pa.array([None] * len(numbers), column.type)
        self._load([column.field])
        values, rows = self._read[column.field], self.rows(numbers)
        if (np.diff(rows) == 1).all() and rows[0] != ABSENT:
            part = values.slice(int(rows[0]), len(rows))
        else:
            part = values.take(pa.array(rows, mask=rows == ABSENT))
        try:
            return as_type(part, column.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            message = f"{self.where}: {column.field} is {values.type}, elsewhere in the dataset {column.type}"
            raise ShardError(f"{message}; make it again, or select without it") from error

    @property
    def samples(self) -> int:
        """How many of its rows are of samples, whether the shard has them or not."""
        return len(self._keys)

    def type_of(self, field: str) -> pa.DataType | None:
        """Of a column as it is stored, None where there is none."""
        stored = None if self._table is None else self._table.schema
        return stored.field(field).type if stored is not None and field in stored.names else None

    @lazy
    def _table(self) -> ParquetTable | None:
        return find_table(self._piece.storage, self._name)

    @property
    def _advice(self) -> str:
        made = "make it again" if self._stage is None else "run the stage again"
        return f"{made}, or choose what becomes of such samples (join, of curate missing: skip or null)"

    @lazy
    def _rows(self) -> np.ndarray:
        """For every row of the piece."""
        piece = self._piece
        if self.lost is not None:
            return np.full(piece.rows, ABSENT)
        if len(self._keys) == self._index.rows and self._keys.equals(self._index.keys):
            return self._numbers[piece.first : piece.last]
        wanted = self._index.keys.slice(piece.first, piece.rows)
        places = pc.index_in(wanted, value_set=self._keys).fill_null(ABSENT).to_numpy()
        doubled = pc.is_in(wanted, value_set=self._doubled).to_numpy(zero_copy_only=False)
        return np.where((places == ABSENT) | doubled, ABSENT, np.append(self._numbers, ABSENT)[places])

    @lazy
    def _numbers(self) -> np.ndarray:
        """Of the table's rows that are samples."""
        self._load([self._key, *(["status"] if self._stage is None else []), *self._fields])
        if self._stage is not None:
            return np.arange(len(self._read[self._key]))
        succeeded = pc.equal(self._read["status"], pa.scalar(SUCCESS)).fill_null(False)
        return np.flatnonzero(succeeded.to_numpy())

    @lazy
    def _keys(self) -> Array:
        """Of these rows."""
        numbers, keys = self._numbers, self._read[self._key].combine_chunks()
        return keys if len(numbers) == len(keys) else keys.take(pa.array(numbers))

    @lazy
    def _doubled(self) -> Array:
        """The keys that come more than once."""
        if len(pc.unique(self._keys)) == len(self._keys):
            return self._keys.slice(0, 0)
        counts = pc.value_counts(self._keys)
        return counts.field("values").filter(pc.greater(counts.field("counts"), pa.scalar(1)))

    def _load(self, fields: Sequence[str]) -> None:
        """Have these columns read."""
        new = [field for field in dict.fromkeys(fields) if field not in self._read]
        if new:
            assert self._table is not None
            table = self._table.read(new, texts=[name for name in self._text_columns if name in new])
            self._read |= dict(zip(table.column_names, table.columns, strict=True))
