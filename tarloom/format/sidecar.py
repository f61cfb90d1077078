"""Sidecars: what a stage found out about every sample of a shard, one row a key, in tar order.

Columns: `__key__`, the stage's own, `status` (success, failed or skipped) and `error` (a name, or null). The footer
tells which stage made it, with what fingerprint, and for which version of the shard.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import pyarrow as pa

from tarloom.errors import CorruptShard, StaleSidecar, UsageError
from tarloom.format.index import KEY, ShardIndex
from tarloom.format.layout import is_shard_file, shard_of, sidecar_name
from tarloom.format.parquet import FORMAT_VERSION, ParquetTable, find_table, read_table, write_table
from tarloom.format.storage import Storage

STATUS = "status"
ERROR = "error"
SUCCESS = "success"
FAILED = "failed"
SKIPPED = "skipped"
STATUSES = (SUCCESS, FAILED, SKIPPED)
NOT_IN_SOURCE = "not_in_source"
"""The error of a sample that was carried over from a shard on which the stage had not been run."""
UNCHANGED = "unchanged"
CHANGED = "changed"
_STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class SidecarInfo:
    """What a sidecar's footer says about its making."""

    stage: str
    fingerprint: Mapping[str, str]
    """All that shapes the stage's output: model, revision, prompt, preprocessing, sampling, code version."""
    identity: str
    """Of the shard that it was made for."""
    rows: int
    carried: str | None = None
    """None where the stage was run on this shard. Where its rows were carried over from shards that were repacked,
    whether the pictures have been encoded anew since: "unchanged" or "changed"."""


def check_stage_name(stage: str) -> None:
    """Raises UsageError unless the name can stand in a file name and before a column's."""
    if not _STAGE_NAME.fullmatch(stage):
        raise UsageError(f"stage name {stage!r}: use letters, digits, - and _ only")


def write_sidecar(storage: Storage, shard: str, table: pa.Table, info: SidecarInfo) -> None:
    """Commit a sidecar: the mark that the stage is done with this shard."""
    check_stage_name(info.stage)
    _check_columns(table.schema, storage.describe(sidecar_name(shard, info.stage)))
    write_table(storage, sidecar_name(shard, info.stage), table, info_metadata(info))


def info_metadata(info: SidecarInfo) -> dict[str, str]:
    """What a footer says of a sidecar's making."""
    return {
        "tarloom.format_version": FORMAT_VERSION,
        "tarloom.stage": info.stage,
        "tarloom.fingerprint": json.dumps(dict(info.fingerprint), sort_keys=True),
        "tarloom.identity": info.identity,
        "tarloom.rows": str(info.rows),
    } | ({} if info.carried is None else {"tarloom.carried": info.carried})


def read_sidecar(storage: Storage, shard: str, stage: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The sidecar's table, or the columns named."""
    table = read_table(storage, sidecar_name(shard, stage), columns, texts=(KEY, STATUS, ERROR))
    return table.replace_schema_metadata(None)


def sidecar_info(storage: Storage, shard: str, stage: str) -> SidecarInfo | None:
    """What the footer says, None where there is no sidecar. Raises CorruptShard where the file is not one."""
    table = find_table(storage, sidecar_name(shard, stage))
    return None if table is None else info_in(table, storage.describe(sidecar_name(shard, stage)), stage)


def info_in(table: ParquetTable, where: str, stage: str) -> SidecarInfo:
    """What the footer of an open sidecar says. where: its address."""
    footer = table.footer()
    try:
        info = SidecarInfo(
            stage=footer["tarloom.stage"],
            fingerprint=json.loads(footer["tarloom.fingerprint"]),
            identity=footer["tarloom.identity"],
            rows=int(footer["tarloom.rows"]),
            carried=footer.get("tarloom.carried"),
        )
        sound = info.rows == table.rows and info.stage == stage and footer["tarloom.format_version"] == FORMAT_VERSION
    except (KeyError, ValueError, RecursionError) as error:
        raise CorruptShard(
            f"{where}: not a sidecar; if it is a table of your own, rename it (tarloom curate joins such), else delete "
            "it and run the stage again"
        ) from error
    if not sound or not isinstance(info.fingerprint, dict):
        raise CorruptShard(f"{where}: its footer does not fit it; delete it and run the stage again")
    return info


def find_sidecars(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The stages whose sidecars are among a dataset's file names: by shard, sorted; shards without any are left out.

    "a.b.parquet" is the metadata of shard "a.b" where such a shard is among the names, else sidecar "b" of shard "a".
    """
    known = names if isinstance(names, Set) else frozenset(names)
    shards = {shard_of(name) for name in known if is_shard_file(name)}
    found: dict[str, tuple[str, ...]] = {}
    stages: dict[tuple[str, ...], tuple[str, ...]] = {}  # of a hundred thousand shards, nearly all have the same
    for name in known:
        stem = name.removesuffix(".parquet")
        shard, _, stage = stem.rpartition(".")
        if stem != name and shard in shards and stem not in shards and _STAGE_NAME.fullmatch(stage):
            all_stages = (*found.get(shard, ()), stage)
            found[shard] = stages.setdefault(all_stages, tuple(sorted(all_stages)))
    return found


def check_fresh(info: SidecarInfo, index: ShardIndex, where: str) -> None:
    """Raises StaleSidecar unless the sidecar was made for this version of its shard. where: its address."""
    if info.identity != index.identity or info.rows != index.rows:
        raise StaleSidecar(
            f"{where}: made for {info.identity} with {info.rows} rows, but the tar of {index.shard} is now "
            f"{index.identity} with {index.rows}; run the stage again"
        )


def describe_difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """How two fingerprints differ, such as: model 'a' (now 'b'), prompt 'x' (now 'y')."""
    names = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    return ", ".join(f"{name} {found.get(name)!r} (now {wanted.get(name)!r})" for name in names)


def _check_columns(schema: pa.Schema, where: str) -> None:
    if schema.names[:1] != [KEY] or schema.names[-2:] != [STATUS, ERROR]:
        raise ValueError(f"{where}: columns must be {KEY}, the stage's, {STATUS}, {ERROR}; not {schema.names}")
