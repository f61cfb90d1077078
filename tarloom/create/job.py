"""A creation run: check everything, plan, then make the shards that are not yet done, on any engine."""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa

from tarloom.create.check import check_options
from tarloom.create.config import CreateConfig, shaping_options
from tarloom.create.folder import PictureFolder
from tarloom.create.guard import parse_networks
from tarloom.create.pack import PackerDescription, ShardTask
from tarloom.create.plan import PLAN_VERSION, Plan, check_same, parse_slice, read_plan, selected_shards, write_plan
from tarloom.create.repack import TarShards
from tarloom.create.repack_pack import RepackerDescription
from tarloom.create.shard_files import result_columns
from tarloom.create.sources import Source, cut, open_source
from tarloom.engines.base import Engine, Opener, Report
from tarloom.errors import CorruptShard, EngineError, StorageError, UsageError
from tarloom.format.layout import PLAN, files_of_done, is_shard_file
from tarloom.format.metadata import SUCCESS, metadata_schema, read_stats
from tarloom.format.storage import Storage, open_storage

HOPELESS = 3


@dataclass(frozen=True, kw_only=True)
class CreateSummary:
    """What a run did, shards that were done before it included."""

    rows: int
    successes: int
    failed_by_error: Mapping[str, int]
    """Failed rows by error name."""
    bytes: int
    """Of the members that this run wrote."""
    seconds: float
    shards: int
    """Shards that are done."""
    skipped: int
    """Shards that an earlier run had done."""
    failed_shards: Mapping[str, str]
    """Shards that could not be made, and why."""


class CreateJob:
    """Call `prepare`, then iterate: one report a shard, in any order. `summary` may be asked for at any time."""

    def __init__(self, config: CreateConfig, engine: Engine) -> None:
        self._config = config
        self._engine = engine
        self._started = time.monotonic()
        self._reports: list[Report] = []
        self._failed: dict[str, str] = {}
        self.total = 0
        """Rows of the shards that this run is to make, or has found done."""
        self.shards: list[str] = []
        """Their names."""

    def prepare(self) -> None:
        """Check options, source and output, then plan, or take up the plan that is there.

        Raises UsageError, PlanMismatch or StorageError before any work has begun.
        """
        check_options(self._config)
        parse_networks(self._config.web.allow_private)
        parse_slice(self._config.sharding.shards)
        self._source = open_source(self._config)
        self._storage = open_storage(self._config.output)
        _check_writable(self._storage)
        self._plan, self._additional = _planned(self._source, self._storage, self._config)
        self._schema = metadata_schema(self._additional, self._source.has_captions, result_columns(self._config))
        self._storage.sweep()
        self._numbers = selected_shards(self._plan, self._config.sharding.shards)
        self.shards = [self._plan.name(number) for number in self._numbers]
        self.total = sum(last - first for first, last in map(self._plan.rows_of, self._numbers))

    def __iter__(self) -> Iterator[Report]:
        """Make what is not done yet. Raises EngineError where the run cannot go on.

        Rows fail alone; what fails a shard is the place where it is written, and rarely one shard's alone. So a run
        ends at HOPELESS of them in a row, rather than fetch all the rest in vain.
        """
        missing = []
        for number, done in zip(self._numbers, self._done_before(), strict=True):
            if done is None:
                missing.append(number)
            else:
                self._reports.append(done)
                yield done
        description = _description(self._source, self._config, self._schema)
        in_a_row = 0
        for outcome in self._engine.map(description, self._tasks(missing)):
            report = outcome.result or Report(shard=outcome.item.shard)
            if outcome.error is None:
                self._reports.append(report)
                in_a_row = 0
            else:
                self._failed[report.shard] = outcome.error
                in_a_row += 1
                if in_a_row == HOPELESS:
                    raise EngineError(f"{HOPELESS} shards in a row failed, the last for this: {outcome.error}")
            yield report

    def summary(self) -> CreateSummary:
        """The counts so far."""
        errors: Counter[str] = Counter()
        for report in self._reports:
            errors.update(report.errors)
        return CreateSummary(
            rows=sum(report.rows for report in self._reports),
            successes=sum(report.successes for report in self._reports),
            failed_by_error=dict(errors.most_common()),
            bytes=sum(report.bytes for report in self._reports),
            seconds=round(time.monotonic() - self._started, 3),
            shards=len(self._reports),
            skipped=sum(report.skipped for report in self._reports),
            failed_shards=dict(sorted(self._failed.items())),
        )

    def _tasks(self, numbers: Sequence[int]) -> Iterator[ShardTask]:
        """The shards to make, with their rows, read from the source as they are asked for."""
        if not numbers:
            return
        ranges = [self._plan.rows_of(number) for number in numbers]
        first = ranges[0][0]
        tables = cut(self._source.tables(self._additional, first), first, ranges)
        for number, (row, _), table in zip(numbers, ranges, tables, strict=True):
            yield ShardTask(shard=self._plan.name(number), first_row=row, rows=table)

    def _done_before(self) -> Iterator[Report | None]:
        """For each shard the report of an earlier run that did it, if one did."""
        names = {entry.name for entry in self._storage.list()}
        for shard in self.shards:
            files = files_of_done(shard, self._config.sharding.output_format)
            yield _earlier_report(self._storage, shard) if files <= names else None


def _description(source: Source, config: CreateConfig, schema: pa.Schema) -> Opener[ShardTask, Report]:
    """What makes shards of this source."""
    if isinstance(source, TarShards):
        return RepackerDescription(config=config, schema=schema, source=source.storage, stages=source.stages)
    folder = source.storage if isinstance(source, PictureFolder) else None
    return PackerDescription(config=config, schema=schema, folder=folder)


def _earlier_report(storage: Storage, shard: str) -> Report | None:
    try:
        stats = read_stats(storage, shard)
    except CorruptShard:
        return None
    if stats is None:
        return None
    errors: Counter[str] = Counter()
    for message, count in stats.status_dict.items():
        if message != SUCCESS:
            errors[message.partition(":")[0]] += count
    return Report(
        shard=shard, rows=stats.count, successes=stats.successes, errors=dict(sorted(errors.items())), skipped=True
    )


def _planned(source: Source, storage: Storage, config: CreateConfig) -> tuple[Plan, pa.Schema]:
    """The plan that the output has, or a new one, committed; and the additional columns."""
    fingerprint, options = source.fingerprint(), shaping_options(config)
    plan = read_plan(storage)
    if plan is None:
        plan = write_plan(storage, _new_plan(source, storage, config, fingerprint, options))
    check_same(plan, fingerprint, options, storage.url)
    return plan, _schema_of(plan) or source.scan()[1]


def _new_plan(
    source: Source, storage: Storage, config: CreateConfig, fingerprint: str, options: Mapping[str, str]
) -> Plan:
    if any(is_shard_file(entry.name) for entry in storage.list()):
        raise UsageError(f"output {storage.url}: holds shards that are not of a plan; choose an empty folder")
    rows, additional = source.scan()
    if rows == 0:
        raise UsageError(f"source {config.source}: has no rows")
    metadata_schema(additional, source.has_captions, result_columns(config))  # refuses columns of one name
    return Plan(
        version=PLAN_VERSION,
        source=fingerprint,
        options=options,
        rows=rows,
        rows_per_shard=config.sharding.number_sample_per_shard,
        digits=config.sharding.oom_shard_count,
        columns={field.name: str(field.type) for field in additional},
    )


def _schema_of(plan: Plan) -> pa.Schema | None:
    """The additional columns, None where their types are not simple enough to be known by their names."""
    try:
        return pa.schema([(name, pa.type_for_alias(cast(Any, kind))) for name, kind in plan.columns.items()])
    except ValueError:
        return None


class _NotKept(Exception):
    """Ends a trial write before its file appears."""


def _check_writable(storage: Storage) -> None:
    """Try to write, and leave no trace: the run may still turn out to be impossible."""
    place = storage.local_path(PLAN)
    missing = [folder for folder in place.parents if not os.path.exists(folder)] if place else []
    try:
        with contextlib.suppress(_NotKept), storage.create(PLAN):
            raise _NotKept
    except StorageError as error:
        raise UsageError(f"output cannot be written: {error}") from error
    finally:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
