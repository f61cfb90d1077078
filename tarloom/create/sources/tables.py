"""A whole table in files of one kind: all of its columns, with types that fit all of its rows.

The readers are those of URL lists, so what is bad in a file is told, mended or marked as it is there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.create.config import ListOptions
from tarloom.create.sources.columns import ERROR as BAD
from tarloom.create.sources.inputs import InputFile, digest, find_files, of_kinds
from tarloom.create.sources.list_reader import ListReader
from tarloom.create.sources.lists import open_reader
from tarloom.errors import UsageError
from tarloom.format.arrow_types import ChunkedArray

FORMATS = ("csv", "tsv", "json", "jsonl", "parquet")
ROW = "__row__"
"""The number of a row in its table."""
ERROR = "__error__"
"""What is wrong with a row, "NAME: what in words"; null where nothing is."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file of a table, to be read wherever there is room for it."""

    file: InputFile
    kind: str
    schema: pa.Schema
    """Of the whole table."""
    first_row: int

    @property
    def table_schema(self) -> pa.Schema:
        """Of what is read."""
        return pa.schema([(ROW, pa.int64()), (ERROR, pa.string()), *self.schema])

    def tables(self) -> Iterator[pa.Table]:
        """Its rows: `__row__`, `__error__`, and the columns."""
        reader = _reader(self.kind, self.schema.names)
        row = self.first_row
        for found in reader.tables([self.file], self.schema, 0):
            numbers = pa.array(range(row, row + found.num_rows), pa.int64())
            row += found.num_rows
            bad = found.column(BAD) if BAD in found.column_names else pa.nulls(found.num_rows, pa.string())
            columns = [self._plain(found.column(name)).cast(self.schema.field(name).type) for name in self.schema.names]
            yield pa.table([numbers, bad, *columns], schema=self.table_schema)

    def _plain(self, column: ChunkedArray) -> ChunkedArray:
        """As plain_type says. In csv and tsv what is empty is null: they have no other word for it."""
        found: Any = pc.cast(column, plain_type(column.type))
        if self.kind in ("csv", "tsv") and found.type == pa.string():
            empty: Any = pc.binary_length(found).to_numpy() == 0
            found = pc.if_else(pa.array(empty), pa.scalar(None, pa.string()), found)
        return cast(ChunkedArray, found)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as it was found."""

    files: tuple[InputFile, ...]
    kind: str
    schema: pa.Schema
    rows: int
    parts: tuple[Part, ...]

    def tables(self) -> Iterator[pa.Table]:
        """All rows in order, as the parts have them."""
        for part in self.parts:
            yield from part.tables()

    def digest(self) -> str:
        """What the files hold, as "sha256:HEX"."""
        return digest(self.files)


def find_table(source: str) -> Table:
    """The table at a place, of which every row is read once to know the types. Raises UsageError."""
    wanted = f"a table ({', '.join(FORMATS)}), or a folder or a glob of tables of one kind"
    found, is_folder = find_files(source, wanted=wanted)
    files = tuple(of_kinds(found, FORMATS, is_folder=is_folder))
    kinds = sorted({file.extension for file in files})
    if len(kinds) != 1:
        held = f"tables of several kinds ({', '.join(kinds)})" if kinds else f"no table ({', '.join(FORMATS)})"
        raise UsageError(f"{source}: {held}; give files of one kind")
    names = dict.fromkeys(name for file in files for name in _reader(kinds[0]).columns(file))
    reader = _reader(kinds[0], list(names))
    total, columns = reader.scan(files)
    schema = pa.schema([(field.name, plain_type(field.type)) for field in columns])
    parts, first = [], 0
    for file in files:
        parts.append(Part(file=file, kind=kinds[0], schema=schema, first_row=first))
        first += reader.scan([file])[0] if len(files) > 1 else total
    return Table(files=files, kind=kinds[0], schema=schema, rows=total, parts=tuple(parts))


def _reader(kind: str, columns: Sequence[str] = ()) -> ListReader:
    reader = open_reader(kind, ListOptions())
    reader.take_all(columns)
    return reader


def plain_type(kind: Any) -> pa.DataType:
    """What a column of this type is read as: a dictionary's values, and text where there is nothing but nulls."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    return pa.string() if pa.types.is_null(kind) or pa.types.is_large_string(kind) else cast(pa.DataType, kind)
