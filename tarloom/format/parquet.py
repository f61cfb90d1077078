"""Parquet files through a storage: the same table gives the same bytes; what cannot be read is a CorruptShard.

Every page has a checksum that is proven when it is read: a changed bit is an error, never another value.
Of a remote file, what is wanted is read: its end, where the footer is, then the columns that are asked for.
"""

import bisect
import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tarloom.errors import CorruptShard, StorageError, first_line
from tarloom.format.cpu_threads import on_cpu_threads
from tarloom.format.retyped import as_read, schema_as_read
from tarloom.format.storage import LocalStorage, Storage

FORMAT_VERSION = "1"
ROW_GROUP_ROWS = 64 << 10
_TAIL_BYTES = 64 << 10
_MAGIC_BYTES = 8
"""A parquet file ends with the footer's length (4 bytes, little-endian) and "PAR1"."""


def write_table(
    storage: Storage,
    name: str,
    table: pa.Table,
    metadata: Mapping[str, str] | None = None,
    *,
    near: bool = False,
) -> None:
    """Commit a table, `metadata` (text to text) in its footer.

    near: all columns are texts or integers, of which each is near the one before: what differs is written. That is
    small enough for a codec that is read in less time than zstd takes to begin.
    """
    table = table.replace_schema_metadata(dict(sorted(metadata.items())) if metadata else None)
    options = {**(_near(table.schema) if near else {"compression": "zstd"}), "write_page_checksum": True}
    with storage.create(name) as file, pq.ParquetWriter(file, table.schema, **options) as writer:
        for first in range(0, max(1, table.num_rows), ROW_GROUP_ROWS):
            # pages end where chunks do: of one chunk, that equal tables of other chunks give equal bytes
            writer.write_table(table.slice(first, ROW_GROUP_ROWS).combine_chunks(), row_group_size=ROW_GROUP_ROWS)


def _near(schema: pa.Schema) -> dict[str, Any]:
    """How differences are written: parquet.apache.org/docs/file-format/data-pages/encodings."""
    kinds = {field.name: "BINARY_PACKED" if pa.types.is_integer(field.type) else "BYTE_ARRAY" for field in schema}
    encodings = {name: f"DELTA_{kind}" for name, kind in kinds.items()}
    return {"compression": "snappy", "use_dictionary": False, "column_encoding": encodings}


def table_bytes(table: pa.Table, metadata: Mapping[str, str]) -> bytes:
    """A file for a short time: made in a third of the time that write_table takes, and larger."""
    file = io.BytesIO()
    table = table.replace_schema_metadata(dict(metadata))
    options: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(table, file, write_page_checksum=True, **options)
    return file.getvalue()


@contextmanager
def row_group_writer(
    storage: Storage, name: str, schema: pa.Schema, *, unlike: Collection[str]
) -> Iterator[Callable[[pa.Table], None]]:
    """Commit a table that is too large for the memory: call what this gives with the rows of one group at a time.

    unlike: columns of values that are hardly ever equal, which no dictionary would make smaller.
    """
    alike: Any = [field for field in schema.names if field not in unlike]
    with (
        storage.create(name) as file,
        pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=alike, write_page_checksum=True) as writer,
    ):
        yield lambda table: writer.write_table(table, row_group_size=max(1, table.num_rows))


def read_table(
    storage: Storage, name: str, columns: Sequence[str] | None = None, *, texts: Collection[str] = ()
) -> pa.Table:
    """The table, or the columns named, in the order named.

    texts: columns that come as strings, however they are stored. Raises CorruptShard, also for a column it lacks and
    for one in `texts` that is nothing like text.
    """
    if columns is not None or isinstance(storage, LocalStorage):
        return open_table(storage, name).read(columns, texts=texts)
    return ParquetTable(storage, name, memoryview(storage.read(name))).read(texts=texts)


def read_footer(storage: Storage, name: str) -> tuple[dict[str, str], int]:
    """The footer's text metadata and the number of rows, without reading the table."""
    table = open_table(storage, name)
    return table.footer(), table.rows


def read_schema(storage: Storage, name: str) -> pa.Schema:
    """The table's columns, without reading the table."""
    return open_table(storage, name).schema


def open_table(storage: Storage, name: str) -> "ParquetTable":
    """As find_table. Raises StorageError where there is none."""
    table = find_table(storage, name)
    if table is None:
        raise StorageError(f"{storage.describe(name)}: no such file")
    return table


def find_table(storage: Storage, name: str) -> "ParquetTable | None":
    """A table, its end read and nothing else; None where there is none. Raises CorruptShard."""
    if isinstance(storage, LocalStorage):
        return None if storage.head(name) is None else ParquetTable(storage, name, storage.map(name))
    found = storage.read_end(name, _TAIL_BYTES)
    return None if found is None else ParquetTable(storage, name, *found)


class ParquetTable:
    """A table in a storage: what its footer says, and columns as they are asked for.

    end, size: the file's last bytes, and how many there are in all; by default that was all of it.
    """

    def __init__(self, storage: Storage, name: str, end: memoryview, size: int | None = None) -> None:
        self._storage, self._name = storage, name
        self._where = storage.describe(name)
        self._size = len(end) if size is None else size
        length = int.from_bytes(end[-_MAGIC_BYTES:-4], "little") + _MAGIC_BYTES
        if len(end) < length <= self._size:
            end = storage.read_ranges(name, [self._size - length], [length])[0]
        self._end = end
        with _sound(self._where):
            file = _open(pa.BufferReader(pa.py_buffer(end)))
            self._file = file if len(end) == self._size else None
            self._found = file.metadata
            self.schema = schema_as_read(self._found.schema.to_arrow_schema()).remove_metadata()
        _check_distinct(self.schema.names, self._where)
        self.rows = self._found.num_rows

    def footer(self) -> dict[str, str]:
        """Its text metadata."""
        with _sound(self._where):
            found = self._found.metadata or {}
            return {key.decode(): value.decode() for key, value in found.items() if key != b"ARROW:schema"}

    def read(self, columns: Sequence[str] | None = None, *, texts: Collection[str] = ()) -> pa.Table:
        """As read_table."""
        _check_columns(columns or (), self.schema, self._where)
        wanted = self.schema.names if columns is None else columns
        with _sound(self._where):
            file = self._file or _open(self._source(wanted), self._found)
            read = partial(_read, file, columns, texts)
            return read() if self._storage.is_local else on_cpu_threads(read)

    def _source(self, columns: Sequence[str]) -> pa.NativeFile:
        """The file as Arrow reads it, in which these columns are there."""
        there = self._size - len(self._end)
        places = sorted(place for place in self._places(columns) if place[0] < there)
        starts, sizes = [start for start, _ in places], [size for _, size in places]
        parts = self._storage.read_ranges(self._name, starts, sizes)
        return pa.PythonFile(_Sparse(self._size, [*starts, there], [*parts, self._end]), mode="r")

    def _places(self, columns: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Where these columns lie in the file: first bytes and sizes."""
        wanted = tuple(f"{column}." for column in columns)
        for number in range(self._found.num_row_groups):
            group = self._found.row_group(number)
            for chunk in map(group.column, range(group.num_columns)):
                if f"{chunk.path_in_schema}.".startswith(wanted):  # a list's numbers: embedding.list.element
                    pages = (chunk.dictionary_page_offset, chunk.data_page_offset)
                    yield min(page for page in pages if page is not None), chunk.total_compressed_size


def _open(source: pa.NativeFile, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    return pq.ParquetFile(source, metadata=metadata, pre_buffer=False, page_checksum_verification=True)


def _read(file: pq.ParquetFile, columns: Sequence[str] | None, texts: Collection[str]) -> pa.Table:
    # Not in Arrow's threads: one that frees Python's buffer while Python ends would end it with an abort.
    table = as_read(file.read(columns=None if columns is None else list(columns), use_threads=False))
    table = table if columns is None else table.select(list(columns))
    for place, field in enumerate(table.schema):
        if field.name in texts and field.type != pa.string():
            table = table.set_column(place, field.name, table.column(place).cast(pa.string()))
    return table


class _Sparse(io.RawIOBase):
    """A file of which some parts are in memory. To read others is an error: nothing asks for them."""

    def __init__(self, size: int, starts: Sequence[int], parts: Sequence[memoryview]) -> None:
        self._size, self._starts, self._parts = size, starts, parts
        self._position = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int = -1) -> bytes:
        number = bisect.bisect_right(self._starts, self._position) - 1
        first = self._position - self._starts[number]
        data = bytes(self._parts[number][first:][: size if size >= 0 else None]) if number >= 0 else b""
        self._position += len(data)
        return data


def _check_distinct(names: Sequence[str], where: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise CorruptShard(f"{where}: has more than one column {name!r}; write it anew with one of each name")
        seen.add(name)


def _check_columns(columns: Sequence[str], schema: pa.Schema, where: str) -> None:
    absent = [column for column in columns if column not in schema.names]
    if absent:
        raise CorruptShard(f"{where}: lacks the column {', '.join(absent)}; it has {', '.join(schema.names)}")


@contextmanager
def _sound(where: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise CorruptShard(
            f"{where}: not a sound parquet file ({first_line(error)}); restore it or make it anew"
        ) from error
