"""Claims an output for a run, by its plan: the one that is there for this source and these options, or a new one."""

from collections.abc import Mapping, Set
from typing import Any, cast

import pyarrow as pa

from tarloom.create.config import CreateConfig, shaping_options
from tarloom.create.overwrite import delete_shards
from tarloom.create.plan import PLAN_VERSION, Plan, add_plan, find_plan, read_plans, refused
from tarloom.create.repack.chosen import ChosenShards
from tarloom.create.shards.shard_files import result_columns
from tarloom.create.sources.open import Source, source_files
from tarloom.errors import UsageError
from tarloom.format.layout import NAMES_OF_READERS, finished_shards, is_shard_file, shard_of, stats_name
from tarloom.format.metadata import metadata_schema
from tarloom.format.storage import Storage


def planned(source: Source, storage: Storage, config: CreateConfig) -> tuple[Plan, pa.Schema]:
    """The run's plan, committed, and the additional columns of its metadata.

    Raises PlanMismatch where the output was planned otherwise, and the run is neither to extend nor to overwrite it.
    """
    fingerprint, mode = source.fingerprint(), config.resume.incremental_mode
    options = shaping_options(config) | dict(source.choice.options if isinstance(source, ChosenShards) else {})
    draft: Plan | None = None
    if mode == "overwrite":
        draft = _draft(source, config, fingerprint, options)  # finds what is wrong before anything is deleted
        delete_shards(storage, source_files(config)[0])
    while True:
        plans = read_plans(storage)
        plan = find_plan(plans, fingerprint, options)
        if plan is not None:
            known = _schema_of(plan)
            return plan, source.scan()[1] if known is None else known
        if plans and mode != "extend":
            raise refused(plans, fingerprint, options, storage.url)
        first = 0 if plans else _first_free_number(storage, extend=mode == "extend")
        draft = draft or _draft(source, config, fingerprint, options)
        add_plan(storage, plans, draft.behind(plans, first))  # or find, in the next round, that another run was faster


def columns_of(source: Source, additional: pa.Schema, config: CreateConfig) -> pa.Schema:
    """The columns of the metadata. Raises UsageError where two would have one name."""
    if isinstance(source, ChosenShards):
        return source.metadata(additional)
    return metadata_schema(additional, source.has_captions, result_columns(config))


def _draft(source: Source, config: CreateConfig, fingerprint: str, options: Mapping[str, str]) -> Plan:
    """The plan for an empty output."""
    rows, additional = source.scan()
    if rows == 0:
        raise UsageError(f"source {config.source}: has no rows")
    columns_of(source, additional, config)  # refuses columns of one name
    _check_names(additional)
    return Plan(
        version=PLAN_VERSION,
        source=fingerprint,
        options=options,
        rows=rows,
        rows_per_shard=config.sharding.number_sample_per_shard,
        digits=config.sharding.oom_shard_count,
        columns={field.name: str(field.type) for field in additional},
    )


def _check_names(additional: pa.Schema) -> None:
    """Raises UsageError for columns that readers would leave out. Outputs that have them already are finished as is."""
    taken = sorted(NAMES_OF_READERS & set(additional.names))
    if taken:
        raise UsageError(f"additional column {', '.join(taken)}: a name that readers use themselves; rename it")


def _first_free_number(storage: Storage, *, extend: bool) -> int:
    """Of an output without a plan. Raises UsageError where its shards are not numbered, or not to be extended."""
    names = {entry.name for entry in storage.list()}
    shards = _shards_among(names)
    if not extend:
        check_no_shards(storage, names, instead=", or extend this one (incremental_mode)")
    unknown = sorted(shard for shard in shards if not shard.isdecimal() or stats_name(shard) not in names)
    if unknown:
        raise UsageError(
            f"output {storage.url}: {unknown[0]} is no numbered shard with stats, so it cannot be extended; choose "
            "another folder"
        )
    return max(map(int, shards), default=-1) + 1


def check_no_shards(storage: Storage, names: Set[str], *, instead: str = "") -> None:
    """Raises UsageError where an output without a plan has shards. names: of its files; instead: of another folder."""
    if _shards_among(names):
        raise UsageError(f"output {storage.url}: holds shards that are not of a plan; choose an empty folder{instead}")


def _shards_among(names: Set[str]) -> set[str]:
    """Shards that are there, or were: of some the stats alone are left."""
    return {shard_of(name) for name in names if is_shard_file(name)} | set(finished_shards(names))


def _schema_of(plan: Plan) -> pa.Schema | None:
    """The additional columns, None where their types are not simple enough to be known by their names."""
    try:
        return pa.schema([(name, pa.type_for_alias(cast(Any, kind))) for name, kind in plan.columns.items()])
    except ValueError:
        return None
