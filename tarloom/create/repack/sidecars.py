"""Sidecars are cut as their samples are: the rows that stages wrote for samples of other shards, for a new shard."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from tarloom.create.repack.check import CarriedStage
from tarloom.create.repack.rows import GroupSlice
from tarloom.format.index import KEY
from tarloom.format.sidecar import (
    CHANGED,
    ERROR,
    NOT_IN_SOURCE,
    SKIPPED,
    STATUS,
    UNCHANGED,
    SidecarInfo,
    write_sidecar,
)
from tarloom.format.storage import Storage


def write_carried(
    storage: Storage,
    shard: str,
    stages: Mapping[str, CarriedStage],
    *,
    slices: Sequence[GroupSlice],
    keys: Sequence[str | None],
    identity: str,
    changed: bool,
) -> None:
    """Commit the sidecars of a new shard, each unless none of its samples had a row.

    keys: of all samples of the slices, None for those that are not in the new shard. identity: of its tar.
    changed: whether any picture has other bytes than it had.
    """
    kept = [key for key in keys if key is not None]
    mask = pa.array([key is not None for key in keys], pa.bool_())
    for name, stage in stages.items():
        table = _joined(name, slices)
        if table is None:
            continue
        table = table.filter(mask).set_column(0, table.schema.field(KEY), pa.array(kept, pa.string()))
        info = SidecarInfo(
            stage=name,
            fingerprint=stage.fingerprint,
            identity=identity,
            rows=len(kept),
            carried=CHANGED if changed or stage.carried == CHANGED else UNCHANGED,
        )
        write_sidecar(storage, shard, table, info)


def _joined(stage: str, slices: Sequence[GroupSlice]) -> pa.Table | None:
    """The rows of all samples of the slices, None where no slice has any."""
    found = [_taken(stage, group_slice) for group_slice in slices]
    schema = next((table.schema for table in found if table is not None), None)
    if schema is None:
        return None
    parts = []
    for group_slice, table in zip(slices, found, strict=True):
        parts.append(_absent(schema, len(group_slice.samples)) if table is None else table)
    return pa.concat_tables(parts).combine_chunks()


def _taken(stage: str, group_slice: GroupSlice) -> pa.Table | None:
    """The rows of the slice alone: those of whole shards would be held until all shards are read."""
    table = group_slice.group.sidecar(stage)
    return None if table is None else table.take(group_slice.samples)


def _absent(schema: pa.Schema, rows: int) -> pa.Table:
    known: dict[str, Any] = {STATUS: pa.array([SKIPPED] * rows), ERROR: pa.array([NOT_IN_SOURCE] * rows)}
    return pa.table([known.get(field.name, pa.nulls(rows, field.type)) for field in schema], schema=schema)
