"""Ray Data writes sidecars: what it found out about samples goes beside the shards that they came from.

    rows = ds.select("jpg").to_ray(url=True).map_batches(Captioner)       # keeps __key__ and __url__, adds text
    rows.write_datasink(SidecarSink(ds, "caption", columns=["text"], fingerprint={"model": "..."}))

Rows of a shard may come in any order, to any task. A task that does not have all of them leaves a part; whoever finds
that no part is missing proves that every key of the shard is there once, and commits the sidecar in the tar's order.
"""

import contextlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import ShardError, StageMismatch, StaleIndex, StorageError, UsageError, missing_extra
from tarloom.format.ahead import THREADS
from tarloom.format.index import KEY
from tarloom.format.layout import PRIVATE, sidecar_name
from tarloom.format.new_shard import concat
from tarloom.format.parquet import read_table, write_table
from tarloom.format.sidecar import (
    ERROR,
    STATUS,
    SUCCESS,
    SidecarInfo,
    check_stage_name,
    describe_difference,
    sidecar_info,
    write_sidecar,
)
from tarloom.format.storage import Entry
from tarloom.read.dataset import Dataset
from tarloom.read.plan.indexes import cached_index
from tarloom.read.ray.data import URL
from tarloom.read.ray.tensors import plain_table
from tarloom.read.selection import names_given

try:
    from ray.data.block import Block
    from ray.data.datasource import Datasink, WriteResult
except ImportError as error:
    raise missing_extra("ray", error) from error

NAMED = 3
"""Shards in a message."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A shard that is to have a sidecar, as it was when the dataset was opened."""

    shard: str
    tar: Entry
    identity: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a task did for a shard."""

    shard: str
    committed: bool
    schema: pa.Schema
    """Of the sidecar."""


class SidecarSink(Datasink):  # type: ignore[misc]
    """Writes columns as sidecars of a dataset. Rows have `__key__` and `__url__`, the address of their tar.

    columns: the stage's. Rows may also have `status` (success, failed, skipped) and `error`; without, all are
    successes. fingerprint: all that shapes the columns, as `tarloom info` shows it. Raises UsageError for a bad name,
    StageMismatch where sidecars of this name were made otherwise, unless overwrite is set.
    """

    def __init__(
        self,
        dataset: Dataset,
        stage: str,
        *,
        columns: Sequence[str],
        fingerprint: Mapping[str, str],
        overwrite: bool = False,
    ) -> None:
        check_stage_name(stage)
        self._stage = stage
        self._columns = names_given("columns", columns)
        self._fingerprint = dict(fingerprint)
        self._storage = dataset.catalog.storage
        self._parts = f"{PRIVATE}/parts-{uuid.uuid4().hex}"
        self._targets = _targets(dataset)
        if not overwrite:
            self._check_others([files.shard for files in dataset.shards])

    def write(self, blocks: Iterable[Block], ctx: Any) -> list[Written]:
        """What a task did for each of the shards of which it had rows."""
        by_url: dict[str, list[pa.Table]] = {}
        for table in map(plain_table, blocks):
            rows, urls = self._rows(table), table[URL].cast(pa.string())
            for url in map(str, pc.unique(urls).to_pylist()):
                by_url.setdefault(url, []).append(rows.filter(pc.equal(urls, pa.scalar(url))))
        return [self._settle(url, _joined(url, tables), ctx.task_idx) for url, tables in by_url.items()]

    def on_write_complete(self, write_result: WriteResult[list[Written]]) -> None:
        """Raises ShardError where shards have no sidecar now, because rows of them did not come."""
        self._remove_parts()
        done = {found.shard: found for task in write_result.write_returns for found in task if found.committed}
        lacking = [each.shard for each in self._targets.values() if each.rows and each.shard not in done]
        if lacking:
            some = ", ".join(lacking[:NAMED]) + (", ..." if len(lacking) > NAMED else "")
            raise ShardError(
                f"{self._storage.url}: {len(lacking)} shards have no {self._stage} now ({some}): samples of them were "
                "not there; write a row for every sample, with status skipped where there is nothing to say"
            )
        empty = [each for each in self._targets.values() if not each.rows]
        for target in empty if done else ():
            self._commit(target, next(iter(done.values())).schema.empty_table())

    def on_write_failed(self, error: Exception) -> None:
        self._remove_parts()
        self._storage.sweep()

    def _check_others(self, shards: Sequence[str]) -> None:
        there = {entry.name for entry in self._storage.list()}  # the dataset may be older than they are
        shards = [shard for shard in shards if sidecar_name(shard, self._stage) in there]
        with ThreadPoolExecutor(THREADS) as pool:
            found = pool.map(lambda shard: sidecar_info(self._storage, shard, self._stage), shards)
            for shard, info in zip(shards, found, strict=True):
                if info is not None and dict(info.fingerprint) != self._fingerprint:
                    difference = describe_difference(info.fingerprint, self._fingerprint)
                    raise StageMismatch(
                        f"{self._storage.describe(shard)}: its {self._stage} was made with {difference}; "
                        "choose another name, or overwrite"
                    )

    def _rows(self, table: pa.Table) -> pa.Table:
        """The sidecar's columns."""
        absent = [name for name in (KEY, URL, *self._columns) if name not in table.column_names]
        if absent:
            raise UsageError(f"rows have no column {', '.join(absent)}; they have {', '.join(table.column_names)}")
        given = {KEY: table[KEY].cast(pa.string())} | {name: table[name] for name in self._columns}
        for name, default in ((STATUS, SUCCESS), (ERROR, None)):
            values = table[name] if name in table.column_names else pa.array([default] * table.num_rows)
            given[name] = values.cast(pa.string())  # a block's nulls alone are of no type
        return pa.table(given)

    def _settle(self, url: str, rows: pa.Table, task: int) -> Written:
        """Commit a shard's sidecar if all of its rows are here, or here and in parts; else leave a part."""
        target = self._targets.get(url)
        if target is None:
            raise UsageError(f"{url}: no shard of {self._storage.url}; write rows that were read from there")
        if rows.num_rows < target.rows:
            folder = f"{self._parts}/{target.shard}"
            write_table(self._storage, f"{folder}/{task:06d}-{rows.num_rows}.parquet", rows)
            parts = sorted(entry.name for entry in self._storage.list(folder))
            if sum(map(_rows_in, parts)) < target.rows:
                return Written(shard=target.shard, committed=False, schema=rows.schema)
            found = [read_table(self._storage, part) for part in parts]
            # What is of our types comes first: parquet renames what is in vectors.
            rows = _joined(url, [rows.schema.empty_table(), *found])
        self._commit(target, rows)
        return Written(shard=target.shard, committed=True, schema=rows.schema)

    def _commit(self, target: Target, rows: pa.Table) -> None:
        """Raises ShardError unless there is one row for each key, StaleIndex where the shard is not what it was."""
        index = cached_index(self._storage, target.shard, target.tar, target.identity)
        where = self._storage.describe(target.tar.name)
        if index.identity != target.identity:
            raise StaleIndex(f"{where}: changed while it was being processed; open the dataset again")
        numbers = pc.index_in(index.keys, value_set=rows[KEY].combine_chunks())
        lacking = index.keys.filter(pc.is_null(numbers))[:1].to_pylist()
        if lacking or rows.num_rows != index.rows:
            what = f"no row for key {lacking[0]}" if lacking else f"{rows.num_rows} rows for {index.rows} keys"
            raise ShardError(f"{where}: {what}; write one row for every sample")
        info = SidecarInfo(stage=self._stage, fingerprint=self._fingerprint, identity=index.identity, rows=index.rows)
        write_sidecar(self._storage, target.shard, rows.take(numbers), info)

    def _remove_parts(self) -> None:
        with contextlib.suppress(StorageError):  # nobody reads what stays
            self._storage.delete_folder(self._parts)


def _targets(dataset: Dataset) -> dict[str, Target]:
    """By the address that rows have."""
    facts, storage = dataset.catalog.facts(), dataset.catalog.storage
    return {
        storage.describe(files.tar.name): Target(shard=files.shard, tar=files.tar, identity=identity, rows=rows)
        for files, identity, rows in zip(dataset.shards, facts.identities(), facts.rows.tolist(), strict=True)
    }


def _joined(url: str, tables: Sequence[pa.Table]) -> pa.Table:
    """Their rows. A column that is empty in one of them has no type there, and that of the others here.

    Raises ShardError where a column is of types in them that have nothing in common.
    """
    try:
        return concat(tables, url)
    except ShardError:
        with contextlib.suppress(pa.ArrowException):  # a type for both is not found; the first may do for all
            return pa.concat_tables(table.cast(tables[0].schema) for table in tables)
        raise


def _rows_in(part: str) -> int:
    """How many rows a part has, from its name."""
    return int(PurePosixPath(part).stem.rpartition("-")[2])
