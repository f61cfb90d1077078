"""Parquet lists: counted by their footers, read by row groups, of which those in front of the first row are skipped."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from tarloom.create.sources.boxes import BOXES
from tarloom.create.sources.columns import with_column
from tarloom.create.sources.inputs import InputFile
from tarloom.create.sources.list_reader import BATCH_ROWS, ListReader, can_be_text, skipped, sound
from tarloom.create.texts import is_text
from tarloom.errors import UsageError
from tarloom.format.retyped import as_read, roomy, schema_as_read, unified

BUFFER_BYTES = 1 << 20
"""Of each column: some writers put all rows into one group, whose columns do not fit into the memory."""


class ParquetReader(ListReader):
    """Columns have their own types, boxes in texts aside; numbers of several types in several files the widest."""

    def columns(self, file: InputFile) -> list[str]:
        return column_names(file)

    def scan(self, files: Sequence[InputFile]) -> tuple[int, pa.Schema]:
        rows, additional = 0, pa.schema([])
        for file in files:
            with _parquet(file) as table:
                schema = schema_as_read(table.schema_arrow)
                self._check_columns(file, schema.names)
                additional = _unified(additional, self._kept_columns(file, schema), file)
                rows += table.metadata.num_rows
                self._check_texts(file, schema)
        return rows, additional

    def _kept_columns(self, file: InputFile, schema: pa.Schema) -> pa.Schema:
        return roomy(pa.schema([self._kept(file, schema.field(name)) for name in self.additional]))

    def _kept(self, file: InputFile, field: "pa.Field[pa.DataType]") -> "pa.Field[pa.DataType]":
        """An additional column as the metadata has it: null where any file may have nulls.

        Raises UsageError where it is to hold boxes, and cannot.
        """
        field = field.remove_metadata().with_nullable(True)
        if field.name != self.bbox or _holds_boxes(field.type):
            return field
        if not is_text(field.type):
            raise UsageError(f"{file.where}: column {field.name!r} holds {field.type}, neither boxes nor JSON texts")
        return pa.field(field.name, BOXES)

    def _check_texts(self, file: InputFile, schema: pa.Schema) -> None:
        for name in self.texts.values():
            kind = schema.field(name).type
            if not can_be_text(kind):
                raise UsageError(f"{file.where}: column {name!r} holds {kind}, not text")

    def tables(self, files: Sequence[InputFile], additional: pa.Schema, start: int) -> Iterator[pa.Table]:
        for file in files:
            with _parquet(file) as table:
                for group in range(table.num_row_groups):
                    rows = table.metadata.row_group(group).num_rows
                    if start < rows:
                        found = skipped(self._group_tables(table, group), start)
                        yield from (_cast(part, additional, file) for part in found)
                    start = max(0, start - rows)

    def _file_tables(self, file: InputFile, additional: pa.Schema) -> Iterator[pa.Table]:
        return self.tables([file], additional, 0)

    def _group_tables(self, table: pq.ParquetFile, group: int) -> Iterator[pa.Table]:
        # Not in Arrow's threads: see tarloom.format.parquet.
        for batch in table.iter_batches(BATCH_ROWS, row_groups=[group], columns=self.names, use_threads=False):
            yield self._finished(as_read(pa.Table.from_batches([batch])))


def _unified(known: pa.Schema, found: pa.Schema, file: InputFile) -> pa.Schema:
    """The columns of the files so far, with types that hold those of one more. Raises UsageError where none do."""
    for place, field in enumerate(found if known.names else ()):
        was = known.field(field.name)
        try:
            known = known.set(place, unified(pa.schema([was]), pa.schema([field])).field(0))
        except pa.ArrowException as error:
            text = f"column {field.name!r} holds {field.type}, in files before it {was.type}; write one type"
            raise UsageError(f"{file.where}: {text}") from error
    return known if known.names else found


def _cast(table: pa.Table, fields: pa.Schema, file: InputFile) -> pa.Table:
    """The rows with the types that the columns have over all files. Raises UsageError for a value that would change."""
    for field in fields:
        column = table.column(field.name)
        try:
            table = table if column.type == field.type else with_column(table, field.name, column.cast(field.type))
        except pa.ArrowException as error:
            raise UsageError(f"{file.where}: column {field.name!r} cannot become {field.type} ({error})") from error
    return table


def column_names(file: InputFile) -> list[str]:
    """The columns of a parquet list. Raises UsageError where it is none."""
    with _parquet(file) as table:
        return [str(name) for name in table.schema_arrow.names]


def _holds_boxes(kind: pa.DataType) -> bool:
    """Whether it is a list of lists of numbers."""
    for _ in range(2):
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            return False
        kind = kind.value_type
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


@contextmanager
def _parquet(file: InputFile) -> Iterator[pq.ParquetFile]:
    opened = sound(file, "parquet file")
    with opened, pq.ParquetFile(file.open_raw(), pre_buffer=False, buffer_size=BUFFER_BYTES) as table:
        yield table
