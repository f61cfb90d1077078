"""Ray Data writes shards: a dataset whose rows have `__key__` and members becomes tars with their metadata and index.

    rows.write_datasink(TarSink("s3://bucket/made"))

A write task writes a tar, or several of at most `shard_rows` samples. Every tar appears whole, under a name that is its
task's: a task that Ray runs again writes the same files again. No task knows the columns of the others: when all have
ended, metadata that differs in their types is written again, with types that hold the values of all.
"""

import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tarloom.errors import UsageError, missing_extra
from tarloom.format.index import KEY
from tarloom.format.layout import is_shard_file, metadata_name, numbered_shard
from tarloom.format.new_shard import OWN_COLUMNS, SampleShardWriter, concat, new_shard
from tarloom.format.parquet import read_table, write_table
from tarloom.format.storage import open_storage
from tarloom.read.ray.tensors import plain_table
from tarloom.read.selection import names_given

try:
    from ray.data.block import Block
    from ray.data.datasource import Datasink, WriteResult
except ImportError as error:
    raise missing_extra("ray", error) from error

ROWS_AT_ONCE = 256
"""Samples whose members are copied out of a block at a time."""
TEXT_MEMBERS = ("txt", "json")
"""Columns of strings that are members unless other members are named; all other strings are metadata."""


class TarSink(Datasink):  # type: ignore[misc]
    """Writes rows into a folder of shards, local or in an object store, which must hold none.

    Binary columns become members, their names being the extensions; the others become columns of the metadata, but
    those whose names begin with "__". shard_rows: samples in a tar; by default as many as Ray hands to a task. members:
    the columns of bytes or text that become members, where it is not these. Raises UsageError for a folder with shards.
    """

    def __init__(
        self, path: str | Path, *, shard_rows: int | None = None, members: Sequence[str] | None = None
    ) -> None:
        if shard_rows is not None and shard_rows < 1:
            raise UsageError(f"shard_rows must be at least 1, not {shard_rows}")
        self._storage = open_storage(str(path))
        self._shard_rows = shard_rows
        self._members = None if members is None else names_given("members", members)
        self.on_write_start()

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        """Ray's schema is that of rows before the steps that run in the tasks that write: of no use here.

        Raises UsageError for a folder with shards, such as those that this sink has written before.
        """
        if any(is_shard_file(entry.name) for entry in self._storage.list()):
            raise UsageError(f"{self._storage.url}: holds shards already; choose an empty folder, or remove them")

    @property
    def min_rows_per_write(self) -> int | None:
        return self._shard_rows

    def write(self, blocks: Iterable[Block], ctx: Any) -> list[tuple[str, pa.Schema]]:
        """The shards written by one task, and their metadata's columns."""
        written = []
        slices = _numbered(map(plain_table, blocks), self._shard_rows)
        for part, group in itertools.groupby(slices, key=operator.itemgetter(0)):
            shard = numbered_shard(ctx.task_idx) + ("" if self._shard_rows is None else f"-{part:03d}")
            with new_shard(self._storage, shard) as made:
                for _, rows in group:
                    self._add(made, rows)
            written.append((shard, made.schema))
        return written

    def on_write_complete(self, write_result: WriteResult[list[tuple[str, pa.Schema]]]) -> None:
        """Raises ShardError where shards have a column of types that do not go together."""
        made = [found for task in write_result.write_returns for found in task]
        columns = concat([schema.empty_table() for _, schema in made] or [pa.table({})], self._storage.url)
        for shard, schema in made:
            if schema != columns.schema:
                name = metadata_name(shard)
                table = concat([columns, read_table(self._storage, name)], self._storage.describe(name))
                write_table(self._storage, name, table)

    def on_write_failed(self, error: Exception) -> None:
        self._storage.sweep()

    def _add(self, made: SampleShardWriter, rows: pa.Table) -> None:
        members = self._members_of(rows.schema)
        others = [n for n in rows.schema.names if not n.startswith("__") and n not in (*members, *OWN_COLUMNS)]
        values = {name: rows[name].cast(pa.large_binary()).to_pylist() for name in members}
        made.add(_keys(rows), values, rows.select(others))

    def _members_of(self, schema: pa.Schema) -> tuple[str, ...]:
        """Raises UsageError where there are none, or what is to be one holds no bytes."""
        where, possible = self._storage.url, [f.name for f in schema if _may_be_member(f.type)]
        members = self._members
        if members is None:
            members = tuple(name for name in possible if _is_member(schema.field(name)))
        absent = next((name for name in (KEY, *members) if name not in possible), None)
        if absent is not None:
            raise UsageError(f"{where}: rows have no column {absent} of bytes or text; encode it before writing")
        if not members:
            raise UsageError(f"{where}: no column of bytes to be members among {', '.join(schema.names)}")
        return members


def _numbered(tables: Iterable[pa.Table], shard_rows: int | None) -> Iterator[tuple[int, pa.Table]]:
    """The tables' rows, at most ROWS_AT_ONCE at a time, with the number of the shard that they go to."""
    done = 0
    for table in tables:
        first = 0
        while first < table.num_rows:
            part, place = (0, 0) if shard_rows is None else divmod(done, shard_rows)
            room = ROWS_AT_ONCE if shard_rows is None else min(ROWS_AT_ONCE, shard_rows - place)
            rows = table.slice(first, room)
            yield part, rows
            first += rows.num_rows
            done += rows.num_rows


def _keys(rows: pa.Table) -> list[str]:
    keys: list[str | None] = rows[KEY].cast(pa.string()).to_pylist()
    known = [key for key in keys if key is not None]
    if len(known) < len(keys):
        raise UsageError(f"a row has no {KEY}; name every sample, or filter such rows")
    return known


def _is_member(field: "pa.Field[Any]") -> bool:
    own = field.name.startswith("__")
    return not own and (_is_binary(field.type) or (_is_text(field.type) and field.name in TEXT_MEMBERS))


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _may_be_member(kind: pa.DataType) -> bool:
    """A column that is empty in a block has no type there."""
    return _is_binary(kind) or _is_text(kind) or pa.types.is_null(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
