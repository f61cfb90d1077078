"""A creation run: check everything, plan, then make the shards that are not yet done, on any engine."""

import logging
import time
from collections.abc import Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from tarloom.create.check import check_options
from tarloom.create.claim_output import columns_of, planned
from tarloom.create.config import CreateConfig
from tarloom.create.plan import parse_slice, selected_shards
from tarloom.create.repack.chosen import Choice, ChosenShards
from tarloom.create.repack.pack import RepackerDescription
from tarloom.create.repack.source import TarShards
from tarloom.create.shards.earlier import is_tried_again
from tarloom.create.shards.results import earlier_report
from tarloom.create.sources.folder import PictureFolder
from tarloom.create.sources.open import Source, cut, open_source
from tarloom.create.sources.stored import absent_places, open_places
from tarloom.create.summary import CreateSummary, sum_up
from tarloom.create.tasks import Earlier, PackerDescription, PackTask
from tarloom.create.web.guard import parse_networks
from tarloom.engines.base import Engine, Opener, Report
from tarloom.errors import EngineError, UsageError
from tarloom.format.ahead import THREADS
from tarloom.format.layout import files_of_done
from tarloom.format.sidecar import find_sidecars
from tarloom.format.storage import open_storage
from tarloom.format.storage.writable import check_writable

MAX_FAILURES_IN_A_ROW = 3
"""Consecutive failed shards after which the run stops: the output, not the rows, is at fault."""

logger = logging.getLogger(__name__)


class CreateJob:
    """Call `prepare`, then iterate: one report a shard, in any order. `summary` may be asked for at any time."""

    def __init__(self, config: CreateConfig, engine: Engine, choice: Choice | None = None) -> None:
        """choice: which samples of the source are taken, where the source is shards; all by default."""
        self._config = config
        self._engine = engine
        self._choice = choice
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
        open_places(self._config.web.allow_storage)
        parse_slice(self._config.sharding.shards)
        self._source = open_source(self._config) if self._choice is None else ChosenShards(self._config, self._choice)
        self._storage = open_storage(self._config.output)
        check_writable(self._storage)
        _check_resuming(self._config, self._source)
        self._plan, self._additional = planned(self._source, self._storage, self._config)
        self._schema = columns_of(self._source, self._additional, self._config)
        self._absent = self._absent_places()
        self._storage.sweep()
        self._numbers = selected_shards(self._plan, self._config.sharding.shards)
        self.shards = [self._plan.name(number) for number in self._numbers]
        self.total = sum(last - first for first, last in map(self._plan.rows_of, self._numbers))

    def _absent_places(self) -> tuple[str, ...]:
        """Places of allow_storage that are known not to be there; that is told once."""
        found = absent_places(self._config.web.allow_storage, self._storage)
        if found:
            logger.warning("allow_storage: %s was not there, or empty; what it lacks is unreadable", ", ".join(found))
        return found

    def __iter__(self) -> Iterator[Report]:
        """Make what is not done yet. Raises EngineError where the run cannot go on."""
        names = {entry.name for entry in self._storage.list()}
        todo: dict[int, Earlier] = {}
        again: dict[str, Report] = {}
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(lambda number: self._done_before(number, names), self._numbers))
        for number, done in zip(self._numbers, found, strict=True):
            earlier = self._taken_over(done)
            if earlier is not None:
                todo[number] = earlier
                again |= {done.shard: done} if done else {}
            elif done is not None:
                self._reports.append(done)
                yield done
        try:
            yield from self._make(todo)
        finally:  # after workers that were stopped, and those of a killed run, who outlived it by a moment
            self._storage.sweep()
        self._warn_of_stale_sidecars(again, names)

    def _make(self, todo: Mapping[int, Earlier]) -> Iterator[Report]:
        """Rows fail alone; what fails a shard is the place where it is written, and rarely one shard's alone. So a run
        ends at several in a row, rather than fetch all the rest in vain."""
        description = _description(self._source, self._config, self._schema, self._absent)
        in_a_row = 0
        for outcome in self._engine.map(description, self._tasks(todo), retries=self._config.resume.max_shard_retry):
            report = outcome.result or Report(shard=outcome.item.shard)
            if outcome.error is None:
                self._reports.append(report)
                in_a_row = 0
            else:
                self._failed[report.shard] = outcome.error
                in_a_row += 1
                if in_a_row == MAX_FAILURES_IN_A_ROW:
                    raise EngineError(f"{in_a_row} shards in a row failed, the last for this: {outcome.error}")
            yield report

    def summary(self) -> CreateSummary:
        """The counts so far."""
        return sum_up(self._reports, self._failed, since=self._started)

    def _tasks(self, todo: Mapping[int, Earlier]) -> Iterator[PackTask]:
        """The shards to make, with their rows, read from the source as they are asked for."""
        if not todo:
            return
        ranges = [self._plan.rows_of(number) for number in todo]
        first = ranges[0][0]
        tables = cut(self._source.tables(self._additional, first), first, ranges)
        for (number, earlier), (row, _), table in zip(todo.items(), ranges, tables, strict=True):
            shard, first_key = self._plan.name(number), self._plan.first_key + row
            yield PackTask(shard=shard, first_row=first_key, rows=table, earlier=earlier)

    def _done_before(self, number: int, names: Set[str]) -> Report | None:
        """The report of an earlier run that did this shard, if one did. names: of all files that are there."""
        shard = self._plan.name(number)
        done = files_of_done(shard, self._config.sharding.output_format) <= names
        return earlier_report(self._storage, shard) if done else None

    def _taken_over(self, done: Report | None) -> Earlier | None:
        """What is taken over of a shard that is to be made; None where a finished one is to stay as it is."""
        if done is None:
            return "samples"
        again = self._config.resume.retry_failed
        return again if again and any(is_tried_again(name, again) for name in done.errors) else None

    def _warn_of_stale_sidecars(self, again: Mapping[str, Report], names: Set[str]) -> None:
        """What stages made of finished shards that have other samples now. again: their reports of before."""
        now = {report.shard: report.successes for report in self._reports}
        changed = {shard for shard, report in again.items() if now.get(shard) not in (None, report.successes)}
        stale = {shard: stages for shard, stages in find_sidecars(names).items() if shard in changed}
        if stale:
            told = ", ".join(sorted({stage for stages in stale.values() for stage in stages}))
            logger.warning("sidecars of %d shards are stale now (%s); run these stages again", len(stale), told)


def _description(
    source: Source, config: CreateConfig, schema: pa.Schema, absent: tuple[str, ...]
) -> Opener[PackTask, Report]:
    """What makes shards of this source. absent: places of allow_storage."""
    if isinstance(source, TarShards):
        return RepackerDescription(
            config=config,
            schema=schema,
            source=source.storage,
            stages=source.stages,
            samples_alone=isinstance(source, ChosenShards),
        )
    folder = source.storage if isinstance(source, PictureFolder) else None
    return PackerDescription(config=config, schema=schema, folder=folder, absent=absent)


def _check_resuming(config: CreateConfig, source: Source) -> None:
    """Rows are fetched again only where a shard's other samples can be taken over; and what runs side by side must not
    delete each other's shards. Raises UsageError."""
    if config.resume.incremental_mode == "overwrite" and config.sharding.shards is not None:
        raise UsageError("incremental_mode overwrite: deletes all shards; leave out shards, or overwrite first")
    if config.resume.retry_failed is None:
        return
    if config.sharding.output_format != "webdataset":
        raise UsageError(f"retry_failed: output_format {config.sharding.output_format} cannot; it needs webdataset")
    if config.downloader != "tarloom" or isinstance(source, TarShards):
        raise UsageError("retry_failed: only what tarloom itself fetched can be fetched again")
