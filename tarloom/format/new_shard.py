"""A shard made of samples that are at hand: its metadata, index and stats, and last its tar, the mark that it is done.

Whoever creates from a source knows more of its rows, and has a plan: see create/shards. Here every row is a sample.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa

from tarloom.errors import ShardError, UsageError
from tarloom.format.index import IndexBuilder, write_index
from tarloom.format.layout import metadata_name, tar_name
from tarloom.format.metadata import SUCCESS, stats_of, write_stats
from tarloom.format.parquet import write_table
from tarloom.format.storage import Storage
from tarloom.format.tar.walk import split_name
from tarloom.format.tar.writer import TarWriter

OWN_COLUMNS = ("key", "status")
"""Of the metadata, behind those that are given."""


class SampleShardWriter:
    """Takes samples in order; the same samples give the same bytes, whoever writes them again."""

    def __init__(self, shard: str, where: str, tar: TarWriter) -> None:
        self._shard = shard
        self._where = where
        self._tar = tar
        self._index = IndexBuilder(where)
        self._columns: list[pa.Table] = []
        self._started = time.time()
        self.rows = 0
        self.schema = pa.schema([])
        """Of the metadata, as soon as that is written."""

    def add(self, keys: list[str], members: Mapping[str, list[bytes | None]], columns: pa.Table) -> None:
        """Append samples: members and columns by name, each with one value a key; None where a sample lacks a member.

        Raises UsageError for a key that would not be read back, or a sample without members; CorruptShard where a key
        comes twice.
        """
        values = [members[extension] for extension in sorted(members)]
        for key, *found in zip(keys, *values, strict=True):
            self._add(key, {ext: data for ext, data in zip(sorted(members), found, strict=True) if data is not None})
        self._columns.append(columns.append_column("key", pa.array(keys, pa.string())))
        self.rows += len(keys)

    def finish(self, storage: Storage) -> None:
        """End the tar, and commit all that belongs to it. Raises ShardError for columns of types that do not go
        together."""
        self._tar.close()
        identity = f"sha256:{self._tar.sha256}"
        metadata = concat(self._columns, self._where)
        status = pa.array([SUCCESS] * self.rows, pa.string())
        counts = {SUCCESS: self.rows}
        metadata = metadata.append_column("status", status)
        write_table(storage, metadata_name(self._shard), metadata)
        self.schema = metadata.schema
        write_index(storage, self._index.finish(self._shard, self._tar.size, identity))
        stats = stats_of(counts, counts, started=self._started, identity=identity, tar_size=self._tar.size)
        write_stats(storage, self._shard, stats)

    def _add(self, key: str, members: Mapping[str, bytes]) -> None:
        if not members:
            raise UsageError(f"{self._where}: sample {key!r} has no member; filter such rows, or give their bytes")
        for extension, data in members.items():
            name = f"{key}.{extension}"
            if split_name(name) != (key, extension):
                raise UsageError(f"{self._where}: {name!r} would be read as another sample; use keys without dots")
            offset = self._tar.add(name, data)
            self._index.add(key, extension, offset, len(data))


def concat(tables: Sequence[pa.Table], where: str) -> pa.Table:
    """Their rows, each column of a type that holds the values of all. Raises ShardError where there is none."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise ShardError(f"{where}: rows differ in the types of their columns: {error}; cast them to one") from error


@contextmanager
def new_shard(storage: Storage, shard: str) -> Iterator[SampleShardWriter]:
    """A shard to be written. It is there when the block ends without an exception, whole; else its tar is not."""
    with storage.create(tar_name(shard)) as file:
        made = SampleShardWriter(shard, storage.describe(tar_name(shard)), TarWriter(file))
        yield made
        made.finish(storage)
