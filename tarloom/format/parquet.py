"""Parquet files through a storage: the same table gives the same bytes; what cannot be read is a CorruptShard.

Every page has a checksum that is proven when it is read: a changed bit is an error, never another value.
Tables are small beside their shards, so a remote file is read whole. A footer alone is read from the file's end.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tarloom.errors import CorruptShard, StorageError
from tarloom.format.storage import LocalStorage, Storage

FORMAT_VERSION = "1"
ROW_GROUP_ROWS = 64 << 10
_TAIL_BYTES = 64 << 10
_MAGIC_BYTES = 8
"""A parquet file ends with the footer's length (4 bytes, little-endian) and "PAR1"."""


def write_table(storage: Storage, name: str, table: pa.Table, metadata: Mapping[str, str] | None = None) -> None:
    """Commit a table, `metadata` (text to text) in its footer."""
    table = table.replace_schema_metadata(dict(sorted(metadata.items())) if metadata else None)
    with storage.create(name) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP_ROWS, write_page_checksum=True)


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
    where = storage.describe(name)
    source = storage.map(name) if isinstance(storage, LocalStorage) else storage.read(name)
    with _sound(where):
        file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(source)), page_checksum_verification=True)
        _check_columns(columns or (), file.schema_arrow, where)
        # Not in Arrow's threads: one that frees Python's buffer while Python ends would end it with an abort.
        table = file.read(columns=None if columns is None else list(columns), use_threads=False)
        table = table if columns is None else table.select(list(columns))
        fields = [field.with_type(pa.string()) if field.name in texts else field for field in table.schema]
        return table.cast(pa.schema(fields).with_metadata(table.schema.metadata))


def read_footer(storage: Storage, name: str) -> tuple[dict[str, str], int]:
    """The footer's text metadata and the number of rows, without reading the table."""
    footer = _footer(storage, name)
    found = footer.metadata or {}
    with _sound(storage.describe(name)):
        text = {key.decode(): value.decode() for key, value in found.items() if key != b"ARROW:schema"}
    return text, footer.num_rows


def read_schema(storage: Storage, name: str) -> pa.Schema:
    """The table's columns, without reading the table."""
    footer = _footer(storage, name)
    with _sound(storage.describe(name)):
        return footer.schema.to_arrow_schema().remove_metadata()


def _footer(storage: Storage, name: str) -> pq.FileMetaData:
    where = storage.describe(name)
    entry = storage.head(name)
    if entry is None:
        raise StorageError(f"{where}: no such file")
    tail = _tail(storage, name, entry.size, _TAIL_BYTES)
    length = int.from_bytes(tail[-_MAGIC_BYTES:-4], "little") + _MAGIC_BYTES
    if len(tail) < length <= entry.size:
        tail = _tail(storage, name, entry.size, length)
    with _sound(where):
        return pq.read_metadata(pa.BufferReader(pa.py_buffer(tail)))


def _tail(storage: Storage, name: str, size: int, wanted: int) -> memoryview:
    start = max(0, size - wanted)
    return storage.read_ranges(name, [start], [size - start])[0]


def _check_columns(columns: Sequence[str], schema: pa.Schema, where: str) -> None:
    absent = [column for column in columns if column not in schema.names]
    if absent:
        raise CorruptShard(f"{where}: lacks the column {', '.join(absent)}; it has {', '.join(schema.names)}")


@contextmanager
def _sound(where: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise CorruptShard(f"{where}: not a sound parquet file ({reason}); restore it or make it anew") from error
