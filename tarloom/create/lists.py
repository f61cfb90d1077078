"""URL lists, read as streams: txt, csv, tsv, json, jsonl and parquet, each as tables of the same columns.

A list's table has the columns `url`, `caption` where one is named, and the additional ones under their own names; url
and caption are text. Columns of csv and tsv are text; those of JSON lists are what all their values are: truth values,
whole numbers, numbers, else text.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from tarloom.create.config import ListOptions
from tarloom.create.inputs import InputFile, first_byte, lines, read_whole
from tarloom.errors import UsageError

BATCH_ROWS = 8192
CSV_BLOCK_BYTES = 16 << 20
"""The longest row of a csv."""


class ListReader(ABC):
    """Reads files of one format. `additional` are the columns kept beside url and caption, in the user's order."""

    def __init__(self, options: ListOptions) -> None:
        if options.caption_col == options.url_col:
            raise UsageError(f"caption_col and url_col are both {options.url_col!r}; name two columns")
        self.additional = tuple(dict.fromkeys(options.save_additional_columns))
        self.wanted = {options.url_col: "url"}
        if options.caption_col is not None:
            self.wanted = {options.caption_col: "caption", **self.wanted}
        self.names = list(dict.fromkeys([*self.additional, *self.wanted]))
        """Columns to read, by the list's names: additional ones first, as the metadata has them."""

    @abstractmethod
    def scan(self, files: Sequence[InputFile]) -> tuple[int, pa.Schema]:
        """One pass over the files: how many rows there are, and the additional columns with their types.

        Raises UsageError for what cannot be read, and for columns that are not there.
        """

    def tables(self, files: Sequence[InputFile], additional: pa.Schema, start: int) -> Iterator[pa.Table]:
        """The rows of all files from row `start`, as tables of at most some ten thousand rows."""
        return skipped((table for file in files for table in self._file_tables(file, additional)), start)

    @abstractmethod
    def _file_tables(self, file: InputFile, additional: pa.Schema) -> Iterator[pa.Table]:
        """The rows of one file."""

    def _check_columns(self, file: InputFile, present: Sequence[str]) -> None:
        """Every wanted column must be there, once."""
        for name in self.names:
            if name not in present:
                raise UsageError(f"{file.where}: no column {name!r}; it has {', '.join(present) or 'none'}")
            if present.count(name) > 1:
                raise UsageError(f"{file.where}: {present.count(name)} columns are called {name!r}; rename all but one")

    def _renamed(self, table: pa.Table) -> pa.Table:
        """Columns in the order and under the names of the metadata; url and caption as text."""
        columns = {name: table.column(name) for name in self.additional}
        columns |= {ours: as_text(table.column(name)) for name, ours in self.wanted.items()}
        return pa.table(columns)


class TextReader(ListReader):
    """One URL a line; blank lines do not count. Commas and quotes are part of the URL."""

    def scan(self, files: Sequence[InputFile]) -> tuple[int, pa.Schema]:
        if self.additional or "caption" in self.wanted.values():
            raise UsageError(f"{files[0].where}: a txt list has no columns; leave out caption_col and others")
        return sum(len(batch) for file in files for batch in lines(file)), pa.schema([])

    def _file_tables(self, file: InputFile, additional: pa.Schema) -> Iterator[pa.Table]:
        for batch in lines(file):
            yield pa.table({"url": as_text(pa.chunked_array([pa.array(batch, pa.binary())]))})


class CsvReader(ListReader):
    """Columns by their names in the first line; quoted values may hold separators and line ends. All are text."""

    def __init__(self, options: ListOptions, separator: str = ",") -> None:
        super().__init__(options)
        self.separator = separator

    def scan(self, files: Sequence[InputFile]) -> tuple[int, pa.Schema]:
        rows = sum(table.num_rows for file in files for table in self._read(file))
        return rows, pa.schema([(name, pa.string()) for name in self.additional])

    def _file_tables(self, file: InputFile, additional: pa.Schema) -> Iterator[pa.Table]:
        for table in self._read(file):
            columns = {name: as_text(table.column(name)) for name in table.column_names}
            yield self._renamed(pa.table(columns))

    def _read(self, file: InputFile) -> Iterator[pa.Table]:
        """The wanted columns as bytes: text that is not UTF-8 is mended later, not refused."""
        with _sound(file, "table"):
            with file.open() as stream:
                self._check_columns(file, self._reader(stream).schema.names)
            with file.open() as stream:
                for batch in self._reader(stream, columns=self.names):
                    yield pa.Table.from_batches([batch])

    def _reader(self, stream: Any, columns: Sequence[str] = ()) -> pc_csv.CSVStreamingReader:
        return pc_csv.open_csv(
            stream,
            read_options=pc_csv.ReadOptions(block_size=CSV_BLOCK_BYTES),
            parse_options=pc_csv.ParseOptions(delimiter=self.separator, newlines_in_values=True),
            convert_options=pc_csv.ConvertOptions(
                include_columns=list(columns), column_types={name: pa.binary() for name in columns}, check_utf8=False
            ),
        )


class JsonReader(ListReader):
    """One JSON object a line; or one array of objects, which is read whole. A line that is no object is a row of
    nulls, so that it fails as one row and not the run."""

    def scan(self, files: Sequence[InputFile]) -> tuple[int, pa.Schema]:
        rows, kinds = 0, {name: _Kinds() for name in self.additional}
        present: set[str] = set()
        for file in files:
            for batch in self._objects(file):
                rows += len(batch)
                for found in batch:
                    present |= found.keys()
                    for name, kind in kinds.items():
                        kind.add(found.get(name))
        if rows:
            self._check_columns(files[0], sorted(present))
        return rows, pa.schema([(name, kind.type) for name, kind in kinds.items()])

    def _file_tables(self, file: InputFile, additional: pa.Schema) -> Iterator[pa.Table]:
        for batch in self._objects(file):
            columns = {
                column.name: pa.array([_value(row.get(column.name), column.type) for row in batch], column.type)
                for column in additional
            }
            for name in self.wanted:
                columns[name] = pa.array([_value(row.get(name), pa.string()) for row in batch], pa.string())
            yield self._renamed(pa.table(columns))

    def _objects(self, file: InputFile) -> Iterator[list[dict[str, Any]]]:
        if first_byte(file) != b"[":
            for batch in lines(file):
                yield [_object(_parsed(line)) for line in batch]
            return
        found = _parsed(read_whole(file))
        if not isinstance(found, list):
            raise UsageError(f"{file.where}: neither JSON lines nor one JSON array of objects")
        yield [_object(row) for row in found]


class ParquetReader(ListReader):
    """A parquet table, read by row groups; those in front of `start` are not read."""

    def scan(self, files: Sequence[InputFile]) -> tuple[int, pa.Schema]:
        rows, additional = 0, None
        for file in files:
            with _parquet(file) as table:
                self._check_columns(file, table.schema_arrow.names)
                kept = pa.schema([table.schema_arrow.field(name).remove_metadata() for name in self.additional])
                rows += table.metadata.num_rows
                self._check_texts(file, table.schema_arrow)
            if additional is not None and kept != additional:
                raise UsageError(f"{file.where}: its columns have other types than those of {files[0].where}")
            additional = kept
        return rows, additional or pa.schema([])

    def _check_texts(self, file: InputFile, schema: pa.Schema) -> None:
        for name in self.wanted:
            kind = schema.field(name).type
            try:
                pc.cast(pa.nulls(0, kind), pa.string())
            except pa.ArrowException as error:
                raise UsageError(f"{file.where}: column {name!r} holds {kind}, not text") from error

    def tables(self, files: Sequence[InputFile], additional: pa.Schema, start: int) -> Iterator[pa.Table]:
        for file in files:
            with _parquet(file) as table:
                for group in range(table.num_row_groups):
                    rows = table.metadata.row_group(group).num_rows
                    if start < rows:
                        yield from skipped(self._group_tables(table, group), start)
                    start = max(0, start - rows)

    def _file_tables(self, file: InputFile, additional: pa.Schema) -> Iterator[pa.Table]:
        return self.tables([file], additional, 0)

    def _group_tables(self, table: pq.ParquetFile, group: int) -> Iterator[pa.Table]:
        # Not in Arrow's threads: see tarloom.format.parquet.
        for batch in table.iter_batches(BATCH_ROWS, row_groups=[group], columns=self.names, use_threads=False):
            yield self._renamed(pa.Table.from_batches([batch]))


def open_reader(input_format: str, options: ListOptions) -> ListReader:
    """The reader of a format."""
    if input_format == "csv":
        return CsvReader(options)
    if input_format == "tsv":
        return CsvReader(options, separator="\t")
    if input_format == "txt":
        return TextReader(options)
    return ParquetReader(options) if input_format == "parquet" else JsonReader(options)


def skipped(batches: Iterable[Any], start: int) -> Iterator[Any]:
    """Lists or tables without the first `start` rows of them all."""
    for batch in batches:
        size = len(batch)
        if start < size:
            yield batch[start:]
        start = max(0, start - size)


def as_text(column: "pa.ChunkedArray[Any]") -> "pa.ChunkedArray[Any]":
    """A column as strings. Bytes that are not UTF-8 are replaced, not refused: one bad row must not end a run."""
    try:
        return pc.cast(column, pa.string())
    except pa.ArrowInvalid:
        values = (value if value is None else value.decode("utf-8", "replace") for value in column.to_pylist())
        return pa.chunked_array([pa.array(values, pa.string())])


@dataclass
class _Kinds:
    """The kinds of values that a JSON column holds, and the type that fits them all."""

    seen: set[type] = field(default_factory=set)

    def add(self, value: object) -> None:
        if value is None:
            return
        fits = not isinstance(value, int) or -(2**63) <= value < 2**63
        self.seen.add(type(value) if fits else str)

    @property
    def type(self) -> pa.DataType:
        if self.seen == {bool}:
            return pa.bool_()
        if self.seen == {int}:
            return pa.int64()
        return pa.float64() if self.seen and self.seen <= {int, float} else pa.string()


def _value(value: Any, kind: pa.DataType) -> Any:
    if value is None or kind != pa.string():
        return float(value) if isinstance(value, int) and kind == pa.float64() else value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()


def _object(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


@contextmanager
def _parquet(file: InputFile) -> Iterator[pq.ParquetFile]:
    with _sound(file, "parquet file"), pq.ParquetFile(file.open_raw(), pre_buffer=False) as table:
        yield table


@contextmanager
def _sound(file: InputFile, kind: str) -> Iterator[None]:
    """What Arrow says of a file that it cannot read, however far it has come, as UsageError."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file.where}: not a sound {kind} ({str(error).splitlines()[0]})") from error
