"""What a run is going to make: the rows, cut into shards, and the fingerprint that a resumed run must have.

    prompt tables -> _tarloom/rows/SHARD.parquet (one a shard) -> _tarloom/plan.json

The plan is written when all rows are there. A run that is killed before makes them anew; one that goes on with a plan
does so only where a row file of an unfinished shard is not there any more.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict

import pyarrow as pa

from tarloom.create.claim_output import check_no_shards
from tarloom.create.plan import PLAN_VERSION, Plan, add_plan, find_plan, read_plans, refused
from tarloom.errors import UsageError
from tarloom.format.layout import rows_name
from tarloom.format.storage import Storage
from tarloom.generate.config import GenerateConfig
from tarloom.generate.pack import columns_of
from tarloom.generate.tables.prompts import PromptTables

Fingerprints = Mapping[str, Mapping[str, str]]
"""Of the stages, by their names, in their order."""


def planned(config: GenerateConfig, tables: PromptTables, storage: Storage, made_by: Fingerprints) -> Plan:
    """The run's plan, committed, after its rows. Raises PlanMismatch where the output was planned otherwise, UsageError
    where it is no place for shards, or no row is there."""
    source, options = tables.fingerprint(), shaping_options(config, made_by)
    plans = read_plans(storage)
    plan = find_plan(plans, source, options)
    if plan is not None:
        return plan
    if plans:
        raise refused(plans, source, options, storage.url)
    check_no_shards(storage, {entry.name for entry in storage.list()})
    rows, schema = write_rows(config, tables, storage)
    if rows == 0:
        raise UsageError(f"prompts {config.table.prompts}: has no rows")
    columns_of(schema)
    plan = Plan(
        version=PLAN_VERSION,
        source=source,
        options=options,
        rows=rows,
        rows_per_shard=config.number_sample_per_shard,
        digits=config.oom_shard_count,
        columns={field.name: str(field.type) for field in schema},
    )
    add_plan(storage, plans, plan)
    return plan


def need_rows(config: GenerateConfig, tables: PromptTables, storage: Storage, shards: list[str]) -> None:
    """Make the rows anew where a file of these shards is missing."""
    there = {entry.name for entry in storage.list()}
    if not {rows_name(shard) for shard in shards} <= there:
        write_rows(config, tables, storage)


def write_rows(config: GenerateConfig, tables: PromptTables, storage: Storage) -> tuple[int, pa.Schema]:
    """All row files; how many rows, and their columns."""
    return tables.write(storage, rows_per_shard=config.number_sample_per_shard, digits=config.oom_shard_count)


def shaping_options(config: GenerateConfig, made_by: Fingerprints) -> dict[str, str]:
    """All that decides the output's bytes, as JSON texts by name."""
    table = {name: value for name, value in asdict(config.table).items() if name not in ("prompts", "details")}
    joined = [text.rstrip("/").rpartition("/")[2] for text in config.table.details]  # rows that find nothing name it
    shape = {"number_sample_per_shard": config.number_sample_per_shard, "oom_shard_count": config.oom_shard_count}
    stages = {f"{name}.{option}": value for name, made in made_by.items() for option, value in made.items()}
    options = {**table, "details": joined, **shape, "stages": list(made_by), **stages}
    return {name: json.dumps(value) for name, value in sorted(options.items())}
