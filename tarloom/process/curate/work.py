"""What is done where rows are: a portion is read and asked, and what all portions have said becomes the answer.

Portions are the same whatever the engine and its workers, and what they say is put together in their order: so are the
answer's numbers, sums of fractions included, and the bytes of its files.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import UsageError
from tarloom.format.parquet import write_table
from tarloom.format.storage import Storage
from tarloom.process.curate.kernel import answer, plain
from tarloom.process.curate.parcels import Parcel
from tarloom.process.curate.statement import PARTITION, PARTS, PORTION, ROW, Statement
from tarloom.read.columns.sql import TABLE, for_duckdb
from tarloom.read.dataset import Dataset
from tarloom.read.plan.pieces import ROW_BYTES, Piece, pack
from tarloom.read.samples.batches import read_piece
from tarloom.read.view import View

PORTION_ROWS = 128 << 10
"""About as many rows are asked at a time: enough that asking costs little beside reading."""
PORTION_BYTES = 64 << 20
"""Of vectors in a portion, at most: several portions are in memory side by side."""
NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
"""What Hive calls the folder of null."""
_FILES: dict[str, pa.DataType] = {"file": pa.string(), "rows": pa.int64()}
FILES = pa.schema([pa.field(name, kind) for name, kind in _FILES.items()])
Portion = tuple[int, tuple[Piece, ...]]
"""Its number, and what is read."""


def portions_of(dataset: Dataset) -> list[Portion]:
    """All rows of a dataset, in order."""
    size = portion_rows(dataset.schema) * ROW_BYTES
    return list(enumerate(pack(dataset.plan(size), total_bytes=dataset.nbytes, target_bytes=size) or [()]))


def portion_rows(columns: pa.Schema) -> int:
    """About as many rows a portion has: fewer where they are wide, which the columns' types alone decide."""
    width = sum(map(_vector_bytes, columns.types))
    return min(PORTION_ROWS, max(1, PORTION_BYTES // width)) if width else PORTION_ROWS


def file_names(partition_by: Sequence[str]) -> re.Pattern[str]:
    """What the files of such an answer are called."""
    folders = "".join(f"{re.escape(quote(name, safe=' '))}=[^/]+/" for name in partition_by)
    return re.compile(rf"{folders}\d{{5,}}\.parquet")


@dataclass(frozen=True, kw_only=True)
class Work:
    """Both halves of a question. Small and picklable."""

    statement: Statement
    growing: tuple[tuple[str, Statement], ...]
    """What the statement grows from, one option at a time, and that option: to name the one that fails."""
    view: View
    """Of the rows that are read."""
    storage: Storage | None
    """Where the answer's files go; None where it is handed back."""
    partitions: int
    partition_by: tuple[str, ...]
    footer: tuple[tuple[str, str], ...]

    def first(self, portion: Portion) -> Iterator[Parcel]:
        """What a portion says, a parcel a partition; or, where that is a part of the answer, the files it wrote."""
        number, pieces = portion
        batches = [batch for piece in pieces for batch in read_piece(piece)]
        said = self.say(pa.Table.from_batches(batches, self.view.schema))
        rows = sum(piece.rows for piece in pieces)
        if self.statement.last is None:
            yield Parcel(partition=0, portion=number, rows=rows, table=self._settled(number, said))
            return
        for partition, part in _by_partition(said):
            yield Parcel(partition=partition, portion=number, rows=rows, table=part)
            rows = 0

    def last(self, parcels: Sequence[Parcel]) -> Parcel:
        """The answer, or a partition's share of it: the table, or the files that were written."""
        parcels = sorted(parcels, key=lambda parcel: parcel.portion)
        numbered = [_numbered(parcel) for parcel in parcels]
        table = self.conclude(pa.concat_tables(numbered))
        partition, rows = parcels[0].partition, sum(parcel.rows for parcel in parcels)
        done = plain(table, what=self.statement.what) if self.storage is None else self._settled(partition, table)
        return Parcel(partition=partition, portion=0, rows=rows, table=done)

    def say(self, rows: pa.Table) -> pa.Table:
        """The first half, of these rows."""
        statement = self.statement
        numbered = for_duckdb(rows.combine_chunks()).append_column(ROW, pa.array(range(rows.num_rows), pa.int64()))
        others = {outside.table_name: for_duckdb(outside.table()) for outside in statement.outsides}
        return self._answered("first", {TABLE: numbered, **others})

    def answer_of(self, rows: pa.Table) -> pa.Table:
        """The answer where these are all rows."""
        said = self.say(rows)
        if self.statement.last is None:
            return plain(said, what=self.statement.what)
        said = said.drop_columns([PARTITION]) if PARTITION in said.column_names else said
        parcel = Parcel(partition=0, portion=0, table=said)
        return plain(self.conclude(_numbered(parcel)), what=self.statement.what)

    def conclude(self, parts: pa.Table) -> pa.Table:
        """The last half, of what was said in the order of the portions."""
        said = parts.combine_chunks()
        return said if self.statement.last is None else self._answered("last", {PARTS: said})

    def _answered(self, half: Literal["first", "last"], tables: Mapping[str, pa.Table]) -> pa.Table:
        """What a half says of these. Raises UsageError that names the option that cannot be answered."""
        try:
            return answer(getattr(self.statement, half), tables, what=self.statement.what)
        except UsageError as error:
            what, failure = self.statement.what, str(error)
            option = next((f"{option}: " for option, part in self.growing if _fails(part, half, tables, failure)), "")
            raise UsageError(f"{what}: {option}{failure.removeprefix(f'{what}: ')}") from error

    def _settled(self, number: int, table: pa.Table) -> pa.Table:
        """Commit a share of the answer; which files it became."""
        assert self.storage is not None
        made = []
        for folder, part in _by_folder(plain(table, what=self.statement.what), self.partition_by):
            name = f"{folder}{number:05d}.parquet"
            write_table(self.storage, name, part, dict(self.footer))
            made.append((name, part.num_rows))
        return pa.table([[name for name, _ in made], [rows for _, rows in made]], schema=FILES)


def _fails(statement: Statement, half: Literal["first", "last"], tables: Mapping[str, pa.Table], failure: str) -> bool:
    """Whether that is how it fails. It may fail otherwise: of what only the whole question's first half says."""
    try:
        answer(getattr(statement, half), tables, what=statement.what)
    except UsageError as error:
        return str(error) == failure
    return False


def _vector_bytes(kind: Any) -> int:
    """Of a vector of such a type; 0 for other types."""
    if not pa.types.is_fixed_size_list(kind):
        return 0
    value = kind.value_type
    each = value.bit_width // 8 if pa.types.is_primitive(value) else _vector_bytes(value)
    return int(kind.list_size * each)


def _by_partition(said: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """What is said for each partition; all of it for the first, where there is but one."""
    if PARTITION not in said.column_names:
        yield 0, said
        return
    column, parts = said.column(PARTITION), said.drop_columns([PARTITION])
    for partition in sorted(set(column.to_numpy().tolist())):
        yield partition, parts.filter(pc.equal(column, pa.scalar(partition, pa.int32())))


def _numbered(parcel: Parcel) -> pa.Table:
    """With the number of the portion, of which one order consists."""
    return parcel.table.append_column(PORTION, pa.array([parcel.portion] * parcel.table.num_rows, pa.int64()))


def _by_folder(table: pa.Table, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each folder, in their order, without the columns that the folder's name says."""
    if not columns:
        yield "", table
        return
    folders = [map(_folder, pc.cast(table.column(name), pa.string()).to_pylist()) for name in columns]
    rows: dict[tuple[str, ...], list[int]] = {}
    for number, values in enumerate(zip(*folders, strict=True)):
        rows.setdefault(values, []).append(number)
    others = table.drop_columns(list(columns))
    for values in sorted(rows):
        named = zip(columns, values, strict=True)
        folder = "".join(f"{quote(name, safe=' ')}={value}/" for name, value in named)
        yield folder, others.take(pa.array(rows[values], pa.int64()))


def _folder(value: str | None) -> str:
    """What Hive calls a value's folder: null and the empty text share one."""
    return quote(value, safe=" ") if value else NULL_FOLDER
