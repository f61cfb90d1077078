"""The files of one shard in each output format, written in input order and committed one after the other, stats last.

    webdataset   00000.tar, 00000.parquet, its index, 00000_stats.json
    files        00000/KEY.jpg, 00000/KEY.json, ...; 00000.parquet, 00000_stats.json
    parquet      00000.parquet with the pictures in it, 00000_stats.json
    dummy        00000_stats.json

Whoever makes a shard knows `open_shard` alone. A shard that is left before its commit leaves nothing that looks whole:
a tar or parquet does not appear at all, and a folder of files lacks its stats until the shard is made anew.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import pyarrow as pa

from tarloom.create.config import CreateConfig, OutputFormat
from tarloom.create.shards.results import MetadataRows, RowResult, members_of, report_of
from tarloom.engines.base import Report
from tarloom.errors import FetchError
from tarloom.format.index import IndexBuilder, write_index
from tarloom.format.layout import metadata_name, stats_name, tar_name
from tarloom.format.metadata import ResultColumns, write_stats
from tarloom.format.parquet import ROW_GROUP_ROWS, row_group_writer, write_table
from tarloom.format.storage import Storage
from tarloom.format.tar.walk import is_of_a_sample
from tarloom.format.tar.writer import TarWriter

FILE_THREADS = 16
"""Samples written at once as files: each file is synced, or sent, alone."""
SAMPLES_WAITING = 2 * FILE_THREADS
ROW_GROUP_BYTES = 32 << 20
"""Pictures in one row group; so much is held in memory."""
LONGEST_NAME = 255
"""Bytes of a file's name, on almost all file systems."""


def result_columns(config: CreateConfig) -> ResultColumns:
    """The columns about what became of the rows that these options ask for."""
    sharding = config.sharding
    return ResultColumns(
        exif=config.images.extract_exif,
        digest=None if sharding.compute_hash == "none" else sharding.compute_hash,
        verified=config.lists.verify_hash is not None,
        picture=config.images.encode_format if sharding.output_format == "parquet" else None,
    )


@dataclass(frozen=True, kw_only=True)
class ShardContents:
    """What a new shard is called and what will be in it."""

    shard: str
    rows: pa.Table
    """The source's rows."""
    schema: pa.Schema
    """Of the metadata."""
    results: ResultColumns
    extension: str
    """The pictures' format."""


def open_shard(
    storage: Storage, config: CreateConfig, *, shard: str, rows: pa.Table, schema: pa.Schema
) -> "ShardWriter":
    """A shard to be written: use it in a `with` block, `add` one result for each of `rows`, then `commit`."""
    results, extension = result_columns(config), config.images.encode_format
    contents = ShardContents(shard=shard, rows=rows, schema=schema, results=results, extension=extension)
    return _KINDS[config.sharding.output_format](storage, contents)


@contextmanager
def committing(storage: Storage, shard: str) -> Iterator[None]:
    """A shard's files are put into their places within the block, the stats last.

    It is not done before, also where it was: nobody must take files of two versions for one shard. In a local folder
    only one process at a time commits a shard; others wait.
    """
    with storage.locked(shard):
        if storage.head(stats_name(shard)) is not None:  # buckets may allow no deletion, or note it where nothing was
            storage.delete(stats_name(shard))
        yield


class ShardWriter(ABC):
    """A shard that is being written. Takes results in input order."""

    def __init__(self, storage: Storage, contents: ShardContents) -> None:
        self._storage = storage
        self._contents = contents
        self._shard = contents.shard
        self._metadata = MetadataRows(contents.rows, contents.schema, contents.results)
        self._unfinished = ExitStack()
        """Files and threads that are open."""
        self._bytes = 0
        self._identity: str | None = None
        self._tar_size: int | None = None

    def __enter__(self) -> Self:
        self._unfinished.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._unfinished.__exit__(*failure)

    def add(self, result: RowResult) -> None:
        """Write what a row has become. Raises StorageError."""
        values = self._metadata.add(result)
        if result.picture is not None:
            self._bytes += self._write(result, values)

    def commit(self) -> Report:
        """Commit the shard's files and, last, its stats: with these it is done. Raises StorageError."""
        self._complete()
        with committing(self._storage, self._shard):
            self._finish()
            stats = self._metadata.stats(identity=self._identity, tar_size=self._tar_size)
            write_stats(self._storage, self._shard, stats)
        return report_of(self._shard, stats, bytes=self._bytes)

    @abstractmethod
    def _write(self, result: RowResult, values: dict[str, Any]) -> int:
        """Write a sample; how many bytes its members have."""

    def _complete(self) -> None:  # noqa: B027
        """Write what is left to write, before a file is in its place: if that fails, a done shard still is one."""

    @abstractmethod
    def _finish(self) -> None:
        """Commit all files but the stats."""


class TarShard(ShardWriter):
    """webdataset: samples in a tar, and an index of it."""

    def __init__(self, storage: Storage, contents: ShardContents) -> None:
        super().__init__(storage, contents)
        self._index = IndexBuilder(contents.shard)

    def __enter__(self) -> Self:
        super().__enter__()
        self._tar = TarWriter(self._unfinished.enter_context(self._storage.create(tar_name(self._shard))))
        return self

    def add(self, result: RowResult) -> None:
        if result.picture is not None and not is_of_a_sample(f"{result.row.key}.json"):
            reason = "readers of tars leave out folders called like __this__ at the top; rename the folder"
            result = _without_key(result, reason)
        super().add(result)

    def _write(self, result: RowResult, values: dict[str, Any]) -> int:
        key, written = result.row.key, 0
        for extension, data in sorted(members_of(result, values, self._contents.extension).items()):
            offset = self._tar.add(f"{key}.{extension}", data)
            self._index.add(key, extension, offset, len(data))
            written += len(data)
        return written

    def _complete(self) -> None:
        self._tar.close()
        self._table = self._metadata.take()

    def _finish(self) -> None:
        self._unfinished.close()
        self._identity, self._tar_size = f"sha256:{self._tar.sha256}", self._tar.size
        write_table(self._storage, metadata_name(self._shard), self._table)
        write_index(self._storage, self._index.finish(self._shard, self._tar_size, self._identity))


class FolderShard(ShardWriter):
    """files: a sample's members are files in a folder called as the shard."""

    def __init__(self, storage: Storage, contents: ShardContents) -> None:
        super().__init__(storage, contents)
        self._names: set[str] = set()
        self._under_way: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        super().__enter__()
        self._pool = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="files")
        self._unfinished.callback(self._pool.shutdown, cancel_futures=True)
        return self

    def add(self, result: RowResult) -> None:
        name = f"{result.row.key}.json".rpartition("/")[2]
        if result.picture is not None and len(name.encode()) > LONGEST_NAME:
            result = _without_key(result, f"with .json longer than a file's name can be, {LONGEST_NAME} bytes")
        super().add(result)

    def _write(self, result: RowResult, values: dict[str, Any]) -> int:
        members = members_of(result, values, self._contents.extension)
        files = {f"{self._shard}/{result.row.key}.{extension}": data for extension, data in members.items()}
        self._names.update(files)
        self._under_way.append(self._pool.submit(self._write_files, files))
        while len(self._under_way) > SAMPLES_WAITING:
            self._under_way.popleft().result()
        return sum(map(len, members.values()))

    def _write_files(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            self._storage.write(name, data)

    def _finish(self) -> None:
        for write in self._under_way:
            write.result()
        self._unfinished.close()
        # What an earlier run left here, of rows that this time have failed.
        for name in sorted({entry.name for entry in self._storage.list(self._shard)} - self._names):
            self._storage.delete(name)
        write_table(self._storage, metadata_name(self._shard), self._metadata.take())


class ParquetShard(ShardWriter):
    """parquet: the pictures are a column of the metadata, called by their format; null where the row failed."""

    def __enter__(self) -> Self:
        super().__enter__()
        name, schema, pictures = metadata_name(self._shard), self._contents.schema, self._contents.extension
        group = row_group_writer(self._storage, name, schema, unlike={pictures})
        self._write_group = self._unfinished.enter_context(group)
        self._held_rows = self._held_bytes = 0
        return self

    def add(self, result: RowResult) -> None:
        super().add(result)
        self._held_rows += 1
        if self._held_rows >= ROW_GROUP_ROWS or self._held_bytes >= ROW_GROUP_BYTES:
            self._write_group(self._metadata.take())
            self._held_rows = self._held_bytes = 0

    def _write(self, result: RowResult, values: dict[str, Any]) -> int:
        size = len(values[self._contents.extension])
        self._held_bytes += size
        return size

    def _complete(self) -> None:
        if self._held_rows:
            self._write_group(self._metadata.take())

    def _finish(self) -> None:
        self._unfinished.close()


class DummyShard(ShardWriter):
    """dummy: nothing but the counts, to measure or to look for dead links."""

    def _write(self, result: RowResult, values: dict[str, Any]) -> int:
        return 0

    def _finish(self) -> None:
        """There is nothing to commit."""


def _without_key(result: RowResult, reason: str) -> RowResult:
    """The result of a row whose sample cannot have its key."""
    return replace(result, picture=None, digest=None, error=FetchError("bad_key", reason))


_KINDS: dict[OutputFormat, type[ShardWriter]] = {
    "webdataset": TarShard,
    "files": FolderShard,
    "parquet": ParquetShard,
    "dummy": DummyShard,
}
