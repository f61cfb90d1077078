"""Which rows of a piece are read, and the columns of metadata and sidecars that are joined to them.

Every sample must have exactly one row in each table that is joined, in a version of it that fits the shard. Where one
has none, or two, or a stale one, the view says what becomes of it: "error" names it, "skip" leaves it out, "null" gives
it nulls; never a guess. A condition sees those nulls too. What was left out or filled is reported with its table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tarloom.format.arrow_types import Array
from tarloom.format.index import KEY, ShardIndex
from tarloom.read.columns.tables import ABSENT, JoinedTable
from tarloom.read.ledger import Skipped
from tarloom.read.plan.pieces import Piece
from tarloom.read.view import Column, by_stage


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Which rows of a piece are read, and what is joined to them."""

    numbers: np.ndarray
    """Their numbers in the shard: int64 of shape (rows,), ascending."""
    keys: Array
    columns: Mapping[str, Array]
    """By name, in the order of the view; each with one value a row."""
    unmatched: tuple[Skipped, ...]
    """What was left out or has nulls, one entry a table."""


def rows_to_read(piece: Piece, index: ShardIndex) -> Rows:
    """The piece's rows that its view lets through, with the view's columns.

    Raises StaleSidecar where a sidecar was made for another version of the shard and JoinError where keys do not
    match, if that is an error in this view; UsageError where the condition cannot be evaluated on a value.
    """
    join, columns = _Join(piece, index), piece.view.columns
    numbers = join.matched(columns, join.passing(), read=True)
    found = join.columns(columns, numbers)
    return Rows(numbers=numbers, keys=_keys(index, numbers), columns=found, unmatched=join.unmatched)


def numbers_to_read(piece: Piece, index: ShardIndex) -> np.ndarray:
    """The numbers of these rows alone, from no more columns than it takes. Raises as rows_to_read does."""
    join = _Join(piece, index)
    numbers = join.passing()
    return join.matched(piece.view.columns, numbers) if piece.view.join == "skip" else numbers


class _Join:
    """The tables that are joined to a piece, each opened once."""

    def __init__(self, piece: Piece, index: ShardIndex) -> None:
        self._piece, self._index = piece, index
        self._tables: dict[str | None, JoinedTable] = {}
        self._unmatched: dict[str, Skipped] = {}

    @property
    def unmatched(self) -> tuple[Skipped, ...]:
        """What was left out or has nulls, one entry a table."""
        return tuple(self._unmatched.values())

    def passing(self) -> np.ndarray:
        """The rows of the piece for which its view's condition is true, by their numbers."""
        piece, where, numbers = self._piece, self._piece.view.where, self._piece.numbers
        if where is None:
            return numbers
        from tarloom.read.columns.evaluate import passing_rows  # loads duckdb

        numbers = self.matched(where.columns, numbers, read=True)
        table = pa.table({KEY: _keys(self._index, numbers), **self.columns(where.columns, numbers)})
        passing: np.ndarray = numbers[passing_rows(where, table, place=piece.url)]
        return passing

    def matched(self, columns: Sequence[Column], numbers: np.ndarray, *, read: bool = False) -> np.ndarray:
        """The rows that remain of these, where the tables of these columns are joined.

        read: the columns themselves will be wanted too. Raises what the view wants raised.
        """
        for stage, joined in by_stage(columns).items():
            fields = [column.field for column in joined] if read else []
            numbers = self._matched(self._table(stage, fields), numbers)
        return numbers

    def columns(self, columns: Sequence[Column], numbers: np.ndarray) -> dict[str, Array]:
        """Values of these rows, which have been matched, by the columns' names."""
        return {column.name: self._table(column.stage).column(column, numbers) for column in columns}

    def _table(self, stage: str | None, fields: Sequence[str] = ()) -> JoinedTable:
        if stage not in self._tables:
            self._tables[stage] = JoinedTable(self._piece, self._index, stage, fields)
        return self._tables[stage]

    def _matched(self, table: JoinedTable, numbers: np.ndarray) -> np.ndarray:
        absent = table.rows(numbers) == ABSENT if len(numbers) else np.zeros(0, bool)
        if not absent.any():
            return numbers
        error = table.problem(int(numbers[absent][0]))
        if self._piece.view.join == "error":
            raise error
        self._unmatched.setdefault(table.where, Skipped.of_file(error, rows=int(absent.sum())))
        return numbers[~absent] if self._piece.view.join == "skip" else numbers


def _keys(index: ShardIndex, numbers: np.ndarray) -> Array:
    if len(numbers) and len(numbers) == numbers[-1] - numbers[0] + 1:
        return index.keys.slice(int(numbers[0]), len(numbers))
    return index.keys.take(pa.array(numbers))
