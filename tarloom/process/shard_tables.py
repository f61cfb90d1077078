"""A shard's rows with all that stages said about them: metadata and sidecars joined by key, every input row there."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.format.index import KEY
from tarloom.format.index_load import load_index
from tarloom.format.layout import metadata_name, sidecar_name, tar_name
from tarloom.format.metadata import SUCCESS
from tarloom.format.parquet import read_table
from tarloom.format.sidecar import check_fresh, read_sidecar, sidecar_info
from tarloom.format.storage import Storage


def rows_with_stages(storage: Storage, shard: str, stages: Sequence[str]) -> pa.Table:
    """The shard's metadata, and as "STAGE.column" what each stage said; null where there is no sample.

    Raises ShardError where a stage has not said it, StaleSidecar where it was said of another version of the shard.
    """
    table = read_table(storage, metadata_name(shard)).replace_schema_metadata(None)
    _check_fresh(storage, shard, stages)
    for stage in stages:
        table = beside(table, read_sidecar(storage, shard, stage), prefix=f"{stage}.")
    return table


def beside(table: pa.Table, other: pa.Table, prefix: str = "") -> pa.Table:
    """The metadata, and the columns of another table by key. Only rows that became samples have any: others may have
    the key of one."""
    status: Any = table["status"]
    keys: Any = pc.if_else(pc.equal(status, pa.scalar(SUCCESS)), table["key"], pa.scalar(None, table["key"].type))
    places: Any = pc.index_in(keys, value_set=other[KEY].combine_chunks()).combine_chunks()
    for name in other.column_names:
        if name != KEY:
            table = table.append_column(f"{prefix}{name}", other[name].combine_chunks().take(places))
    return table


def _check_fresh(storage: Storage, shard: str, stages: Sequence[str]) -> None:
    tar = storage.head(tar_name(shard)) if stages else None
    if tar is None:
        return
    index = load_index(storage, shard, tar)
    for stage in stages:
        info = sidecar_info(storage, shard, stage)
        if info is not None:  # else reading it says what is wrong
            check_fresh(info, index, storage.describe(sidecar_name(shard, stage)))


def versions(storage: Storage, shard: str, stages: Sequence[str]) -> Iterator[str]:
    """Of each of the files that these rows, and the shard's pictures, come from: another text for another content."""
    for name in (tar_name(shard), metadata_name(shard), *(sidecar_name(shard, stage) for stage in stages)):
        entry = storage.head(name)
        yield repr(entry and (name, entry.size, entry.version))
