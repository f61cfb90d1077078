"""The rows of a new shard whose samples lie in other shards: which samples, and the metadata that goes with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.create.img2dataset.named_errors import named_error
from tarloom.create.repack.source import SAMPLE, SHARDS, group_shards
from tarloom.errors import ShardError, UsageError
from tarloom.format.arrow_types import Array
from tarloom.format.index import KEY, ShardIndex
from tarloom.format.index_load import load_index
from tarloom.format.layout import metadata_name, sidecar_name, tar_name
from tarloom.format.metadata import FAILED_TO_DOWNLOAD, SUCCESS
from tarloom.format.parquet import read_table
from tarloom.format.sidecar import check_fresh, read_sidecar, sidecar_info
from tarloom.format.storage import Storage

MISSING_SAMPLE = "missing_sample"
Places = npt.NDArray[np.int64]


class Group:
    """Shards whose rows are counted together, of which at most one has samples, opened where a new shard is made."""

    def __init__(self, storage: Storage, shards: Sequence[tuple[str, str]]) -> None:
        self.storage = storage
        self.indexes = [_open_index(storage, name, identity) for name, identity in shards]
        self.index = max(self.indexes, key=lambda index: index.rows)

    def sidecar(self, stage: str) -> pa.Table | None:
        """A stage's rows for the samples, in tar order; None where it has not been run here. Raises ShardError."""
        shard = self.index.shard
        info = sidecar_info(self.storage, shard, stage)
        if info is None:
            return None
        where = self.storage.describe(sidecar_name(shard, stage))
        check_fresh(info, self.index, where)
        table = read_sidecar(self.storage, shard, stage)
        rows = pc.index_in(self.index.keys, value_set=table.column(KEY).combine_chunks())
        if rows.null_count:
            key = self.index.keys.filter(pc.is_null(rows))[0]
            raise ShardError(f"{where}: has no row for sample {key}; run the stage again")
        return table.take(rows)


class GroupRows:
    """All metadata of a group: much more than its indexes, so it is held only while samples are cut from it."""

    def __init__(self, group: Group, schema: pa.Schema) -> None:
        self.group = group
        self._storage = group.storage
        self._schema = schema
        parts = [self._rows_of(index) for index in group.indexes]
        self._rows = pa.concat_tables(rows for rows, _ in parts)
        samples = np.concatenate([places for _, places in parts])
        self._places = np.flatnonzero(samples >= 0)
        """The row of each sample."""

    def following(self, samples: Places) -> "GroupSlice":
        """These samples, which follow each other.

        A row without a sample goes with the sample in front of it, those in front of all samples with the first.
        """
        first, last = int(samples[0]), int(samples[-1]) + 1
        ends = [0, *self._places[1:].tolist(), self._rows.num_rows]
        start, end = ends[first], ends[last]
        rows, places = self._rows.slice(start, end - start), self._places[first:last] - start
        return GroupSlice(group=self.group, samples=samples, rows=rows, places=places)

    def alone(self, samples: Places) -> "GroupSlice":
        """These samples, without the rows that are none. Their metadata is a copy, which keeps no other row alive."""
        rows = self._rows.take(self._places[samples])
        return GroupSlice(group=self.group, samples=samples, rows=rows, places=np.arange(len(samples)))

    def _rows_of(self, index: ShardIndex) -> tuple[pa.Table, Places]:
        """A shard's metadata and, for each row, the number of its sample in the tar, -1 where it has none."""
        name = metadata_name(index.shard)
        if self._storage.head(name) is None:
            return self._blank(index.keys), np.arange(index.rows)
        given = read_table(self._storage, name)
        if not {"key", "status"} <= set(given.column_names):
            return self._blank(index.keys), np.arange(index.rows)
        rows = self._fitted(given, self._storage.describe(name))
        samples = _samples_of(rows, index)
        lacking = pc.and_(pc.equal(rows.column("status"), pa.scalar(SUCCESS)), pa.array(samples < 0))
        unclaimed = np.setdiff1d(np.arange(index.rows), samples)
        rows = _named(_without_sample(rows, lacking))
        rows = pa.concat_tables([rows, self._blank(index.keys.take(unclaimed))])
        return _in_tar_order(rows, np.concatenate([samples, unclaimed]))

    def _fitted(self, given: pa.Table, where: str) -> pa.Table:
        """The rows with the columns of the new metadata."""
        columns: list[Any] = []
        for field in self._schema:
            if field.name not in given.column_names:
                columns.append(pa.nulls(given.num_rows, field.type))
                continue
            try:
                columns.append(given.column(field.name).cast(field.type))
            except pa.ArrowException as error:
                raise ShardError(f"{where}: column {field.name} cannot become {field.type} ({error})") from error
        return pa.table(columns, schema=self._schema)

    def _blank(self, keys: Array) -> pa.Table:
        """The metadata of samples of which but the key is known."""
        known = {"key": keys, "status": pa.array([SUCCESS] * len(keys), pa.string())}
        return pa.table([known.get(f.name, pa.nulls(len(keys), f.type)) for f in self._schema], schema=self._schema)


@dataclass(frozen=True, kw_only=True)
class GroupSlice:
    """Samples of one group that follow each other in a new shard."""

    group: Group
    samples: Places
    """Their numbers in the group, ascending."""
    rows: pa.Table
    """The metadata that goes with them."""
    places: Places
    """Which of the rows are samples."""


@dataclass(frozen=True, kw_only=True)
class NewRows:
    """All of a new shard's rows, before anything is made of them."""

    slices: tuple[GroupSlice, ...]

    @cached_property
    def table(self) -> pa.Table:
        """The metadata as the source has it."""
        return pa.concat_tables(part.rows for part in self.slices).combine_chunks()

    @cached_property
    def places(self) -> Places:
        """Which rows of the table are samples."""
        starts = np.cumsum([0, *(part.rows.num_rows for part in self.slices)])
        return np.concatenate([part.places + start for part, start in zip(self.slices, starts, strict=False)])

    @cached_property
    def keys(self) -> list[str]:
        """Of the samples, as the source has them."""
        return cast(list[str], self.table.column("key").take(self.places).to_pylist())

    def known(self, column: str | None) -> Iterator[bool]:
        """For each sample whether its metadata has a value in this column."""
        if column is None:
            return iter([False] * len(self.places))
        return map(bool, self.table.column(column).take(self.places).is_valid().to_pylist())


def slices_in(rows: pa.Table) -> Iterator[tuple[list[tuple[str, str]], Places]]:
    """From a task's table: the shards of each group in it, and the numbers of its samples."""
    texts, numbers = rows.column(SHARDS).to_pylist(), cast(list[int], rows.column(SAMPLE).to_pylist())
    numbered = zip(texts, numbers, strict=True)
    for text, members in groupby(numbered, key=lambda pair: pair[0]):
        yield group_shards(text), np.array([sample for _, sample in members], np.int64)


def _open_index(storage: Storage, shard: str, identity: str) -> ShardIndex:
    tar = storage.head(tar_name(shard))
    index = load_index(storage, shard, tar, identity=identity) if tar is not None else None
    if index is None or index.identity != identity:
        raise UsageError(f"{storage.describe(tar_name(shard))}: has changed since the run was planned; start it again")
    return index


def _samples_of(rows: pa.Table, index: ShardIndex) -> Places:
    """For each row the number of its sample in the tar, -1 where it failed or the tar has none. A key's first row has
    its sample."""
    found = pc.index_in(rows.column("key").combine_chunks(), value_set=index.keys)
    succeeded = pc.equal(rows.column("status"), pa.scalar(SUCCESS))
    samples = np.asarray(pc.fill_null(pc.if_else(succeeded, found, pa.scalar(None, found.type)), -1), np.int64)
    claimed, first = np.unique(samples, return_index=True)
    kept = np.full(len(samples), -1)
    kept[first[claimed >= 0]] = claimed[claimed >= 0]
    return kept


def _without_sample(rows: pa.Table, lacking: Any) -> pa.Table:
    """The rows, those marked as failed: the metadata names a sample that the tar has not."""
    ending = {
        "status": FAILED_TO_DOWNLOAD,
        "error_message": f"{MISSING_SAMPLE}: the metadata names the sample, but the tar lacks it",
        "error": MISSING_SAMPLE,
    }
    for name, value in ending.items():
        column = pc.if_else(lacking, pa.scalar(value), rows.column(name))
        rows = rows.set_column(rows.column_names.index(name), rows.schema.field(name), column)
    return rows


def _named(rows: pa.Table) -> pa.Table:
    """The rows, those that failed without an error's name (img2dataset has none) with one, also before the message."""
    nameless = pc.and_(pc.not_equal(rows.column("status"), pa.scalar(SUCCESS)), pc.is_null(rows.column("error")))
    places = np.flatnonzero(nameless.to_numpy())
    if not len(places):
        return rows
    names, messages = rows.column("error").to_pylist(), rows.column("error_message").to_pylist()
    statuses = rows.column("status").to_pylist()
    for place in places:
        message = messages[place] or ""
        names[place] = named_error(statuses[place], message).name
        messages[place] = f"{names[place]}: {message or statuses[place]}"
    for name, values in (("error", names), ("error_message", messages)):
        rows = rows.set_column(rows.column_names.index(name), rows.schema.field(name), pa.array(values, pa.string()))
    return rows


def _in_tar_order(rows: pa.Table, samples: Places) -> tuple[pa.Table, Places]:
    """Rows in the order of their samples; those without one stay behind the sample in front of them."""
    anchors = samples.copy()
    known = np.maximum.accumulate(np.where(anchors >= 0, np.arange(len(anchors)), -1))
    anchors = np.where(known >= 0, anchors[known], -1)
    order = np.argsort(anchors, kind="stable")
    return rows.take(order), samples[order]
