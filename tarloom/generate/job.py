"""A generation run: check everything, make the rows, then the shards that are not yet done, on any engine.

rows -> stages over them (the one shard loop: tarloom/process/loop/shard.py) -> pack -> shards
"""

import logging
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tarloom.create.shards.results import earlier_report, report_of
from tarloom.create.sources.tables import ERROR
from tarloom.create.summary import CreateSummary, sum_up
from tarloom.engines.base import Engine, Pool, Report
from tarloom.errors import CorruptShard, UsageError
from tarloom.format.ahead import THREADS
from tarloom.format.layout import ROWS, files_of_done, rows_name, stats_name
from tarloom.format.metadata import read_stats
from tarloom.format.parquet import read_table
from tarloom.format.sidecar import SidecarInfo
from tarloom.format.storage import open_storage
from tarloom.format.storage.writable import check_writable
from tarloom.generate.config import GenerateConfig
from tarloom.generate.folder import check_folder
from tarloom.generate.inputs import table_inputs
from tarloom.generate.pack import PackRecipe
from tarloom.generate.plan import need_rows, planned
from tarloom.generate.tables.prompts import PromptTables
from tarloom.generate.task import GenerateTask
from tarloom.process.described import check_stages, fingerprints
from tarloom.process.loop.parts import sweep_parts
from tarloom.process.loop.shard import ShardProcessor
from tarloom.process.paint.stage import PaintStage
from tarloom.process.stage import Stage
from tarloom.process.task import ShardReport, StageTask

TEXT = "text"
"""The column of stages that say one."""

logger = logging.getLogger(__name__)


class GenerateJob:
    """Call `prepare`, then iterate: one report a shard, in any order. `summary` may be asked for at any time.

    stages: over the rows, in their order, by their names; the last one paints. pools: of those that live apart, where
    the engine can have that.
    """

    def __init__(
        self,
        config: GenerateConfig,
        stages: Mapping[str, Stage],
        engine: Engine,
        pools: Mapping[str, Pool] | None = None,
    ) -> None:
        self._config, self._engine, self._pools = config, engine, dict(pools or {})
        self.stages = chained(stages)
        self._tables = PromptTables(config.table)
        self._storage = open_storage(config.output)
        self._started = time.monotonic()
        self._done: dict[str, Report] = {}
        self._failed: dict[str, str] = {}
        self.reports: list[ShardReport] = []
        """What stages said about the shards of this run."""
        self.total = 0
        """Rows of all shards."""
        self.shards: list[str] = []
        """Their names."""

    def prepare(self) -> None:
        """Check options, tables and models, make the rows, and find what is to be done.

        Raises UsageError, PlanMismatch or StorageError before any picture is painted.
        """
        self._check()
        check_writable(self._storage)
        self._storage.sweep()
        made_by = fingerprints(self.stages)
        plan = planned(self._config, self._tables, self._storage, made_by)
        self.shards, self.total, self._source = [plan.name(n) for n in range(plan.shards)], plan.rows, plan.source
        self._recipe = PackRecipe(painter=self._painter[0], extension=self._painter[1].encode_format, made_by=made_by)
        self._done = self._done_before()
        todo = [shard for shard in self.shards if shard not in self._done]
        sweep_parts(self._storage, self.stages.keys(), {(shard, name) for shard in todo for name in self.stages})
        if todo:
            need_rows(self._config, self._tables, self._storage, todo)
        with ThreadPoolExecutor(THREADS) as pool:
            self._todo = list(pool.map(self._task, todo))

    def __iter__(self) -> Iterator[Report]:
        """Reports of what was done earlier, then of shards as they are done. A shard that fails has none.

        Raises EngineError where the run cannot go on.
        """
        yield from tuple(self._done.values())
        processor = ShardProcessor(stages=self.stages, pools=self._pools)
        for outcome in self._engine.map(processor, self._todo) if self._todo else ():
            shard = outcome.item.shard
            if outcome.result is None:
                self._failed[shard] = outcome.error or "no reason was given"
                logger.warning("shard %s failed: %s", shard, outcome.error)
                continue
            self.reports.append(outcome.result)
            report = self._report(shard, outcome.result)
            self._done[shard] = report
            yield report
        if len(self._done) == len(self.shards):
            self._storage.delete_folder(ROWS)

    def summary(self) -> CreateSummary:
        """The counts so far."""
        return sum_up(self._done.values(), self._failed, since=self._started)

    @property
    def _painter(self) -> tuple[str, PaintStage]:
        """The stage that makes the pictures. Raises UsageError where the last one does not."""
        name, stage = list(self.stages.items())[-1]
        if not isinstance(stage, PaintStage):
            raise UsageError(f"stage {name}: the last stage must be paint, which makes the pictures")
        return name, stage

    def _check(self) -> None:
        """Raises UsageError for what is wrong with options, stages, models and tables."""
        if not self._config.output:
            raise UsageError("output is empty; name a place")
        for option in ("number_sample_per_shard", "oom_shard_count"):
            if getattr(self._config, option) < 1:
                raise UsageError(f"{option} must be at least 1, not {getattr(self._config, option)}")
        self._painter  # noqa: B018 - whether there is one
        for name, stage in self.stages.items():
            if stage.members:
                raise UsageError(f"stage {name}: wants to see pictures, and there are none yet; run it afterwards")
        check_stages(self.stages)
        self._tables.check()
        self._inputs = table_inputs(self.stages, self._tables.schema)
        if self._config.folder is not None:
            check_folder(self._config.folder, self._storage, self._tables.schema)

    def _done_before(self) -> dict[str, Report]:
        """The reports of finished shards that are to stay as they are."""
        names = {entry.name for entry in self._storage.list()}
        there = [shard for shard in self.shards if files_of_done(shard, "webdataset") <= names]
        with ThreadPoolExecutor(THREADS) as pool:
            reports = list(pool.map(self._kept_report, there))
        return {report.shard: report for report in reports if report is not None}

    def _kept_report(self, shard: str) -> Report | None:
        report = earlier_report(self._storage, shard)
        transient = {error for stage in self.stages.values() for error in stage.transient}
        if report is not None and self._config.retry_failed and transient & report.errors.keys():
            self._storage.delete(stats_name(shard))  # not done any more
            return None
        return report

    def _report(self, shard: str, of_stages: ShardReport) -> Report:
        """What became of the shard's rows: its stats say it."""
        stats = read_stats(self._storage, shard)
        if stats is None:
            raise CorruptShard(f"shard {shard}: its stats are gone; run the same command again")
        size = stats.tar_size or 0
        return replace(report_of(shard, stats, bytes=size), seconds=of_stages.seconds)

    def _task(self, shard: str) -> GenerateTask:
        errors = read_table(self._storage, rows_name(shard), [ERROR]).column(ERROR)
        sound = errors.null_count
        identity = f"{self._source}/{shard}"
        return GenerateTask(
            output=self._storage,
            name=shard,
            sound=sound,
            columns=self._inputs,
            recipe=self._recipe,
            stages=tuple(
                StageTask(info=SidecarInfo(stage=name, fingerprint=made, identity=identity, rows=sound))
                for name, made in self._recipe.made_by.items()
            ),
            batch_rows=min(stage.batch_rows for stage in self.stages.values()),
        )


def chained(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """The stages, the painter painting what a stage before it said where it says a text; by itself it paints the
    column `prompt`."""
    found: dict[str, Stage] = {}
    for name, stage in stages.items():
        teller = next((other for other in reversed(found) if found[other].name == "rewrite"), None)
        told_nothing = isinstance(stage, PaintStage) and stage.prompt_column == "prompt"
        found[name] = replace(stage, prompt_column=f"{teller}.{TEXT}") if teller and told_nothing else stage  # type: ignore[type-var]
    return found
