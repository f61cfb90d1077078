"""A run over a dataset: find what is to be done, let an engine do it, sum up.

The sidecar is the commit mark. A run does the shards that have none, or one made for an older version of the shard; a
sidecar of another fingerprint is refused unless the run is named otherwise or told to overwrite.
"""

import itertools
import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tarloom.engines.base import NOT_YET, Engine, NotYet
from tarloom.errors import UsageError
from tarloom.process.config import ProcessConfig
from tarloom.process.cost import sample
from tarloom.process.described import check_stages
from tarloom.process.loop.pipeline import ShardPipeline
from tarloom.process.loop.shard import ShardProcessor
from tarloom.process.plan import Planner
from tarloom.process.stage import Stage
from tarloom.process.task import ShardReport, ShardTask, StageReport
from tarloom.read.dataset import open_dataset, open_shards

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ProcessSummary:
    """What a run did and what lies there now. rows = successes + all of failed_by_error."""

    rows: int
    successes: int
    failed_by_error: Mapping[str, int]
    stages: Mapping[str, StageReport]
    """The same for each stage, by the sidecars' names; rows, successes and failed_by_error are their sums."""
    shards: int
    """Shards that are done."""
    skipped: int
    """Shards that an earlier run had done; their rows are counted too."""
    failed_shards: Mapping[str, str]
    """Why, by shard."""
    bytes: int
    seconds: float
    rows_per_second: float
    """Of what this run did, loading the model included."""


class ProcessJob:
    """Stages over all shards of a dataset. Prepare it, iterate over its reports, then ask for the summary.

    stages: one, or several over one decode, in the order in which they see each batch, as they are or by the names of
    their sidecars. Raises UsageError where two of them would write the same.
    """

    def __init__(
        self, stages: Stage | Sequence[Stage] | Mapping[str, Stage], config: ProcessConfig, engine: Engine
    ) -> None:
        self.config = config
        self.stages = _named(stages, config.name)
        """By the sidecars' names."""
        self.total = 0
        """Rows in all shards, once for each stage."""
        self._engine = engine
        self._todo: list[ShardTask] = []
        self._reports: list[ShardReport] = []
        self._failed: dict[str, str] = {}
        self._seconds = 0.0

    def check(self) -> None:
        """Raises UsageError where a stage cannot work, whatever the dataset."""
        check_stages(self.stages)

    def prepare(self) -> None:
        """Find what is to be done. Raises UsageError, StageMismatch among them, before any work is started."""
        self.check()
        dataset = open_dataset(self.config.path)
        planner = Planner(dataset, self.stages, self.config)
        found = planner.found()
        planner.sweep(found)
        self.total = len(self.stages) * len(dataset)
        self._todo = [task for task, _ in found if task is not None]
        self._reports = [report for _, report in found if report is not None]

    def __iter__(self) -> Iterator[ShardReport]:
        """Reports of what was done earlier, then of shards as they are done. A shard that fails has none."""
        yield from tuple(self._reports)
        yield from self._process(self._todo, {stage.name for task in self._todo for stage in task.stages})

    def trial(self, images: int) -> Iterator[ShardReport]:
        """Like iterating, over a sample of what is to be done, of which nothing is kept."""
        chosen = sample(self._todo, images)
        yield from self._process(chosen, {stage.name for task in chosen for stage in task.stages})

    @property
    def remaining(self) -> int:
        """Rows that are still to be asked, by whichever stage has the most."""
        return ShardPipeline(stages=self.stages).left(self._todo)

    @property
    def reports(self) -> Sequence[ShardReport]:
        """All so far, those of earlier runs first."""
        return tuple(self._reports)

    def follow(self, shards: Iterable[str | None]) -> Iterator[ShardReport]:
        """Like iterating, where shards are still being made: what `prepare` has found, if it was called, and then each
        shard as it is named. None stands for no shard now, but maybe later."""
        told = 0
        tasks = itertools.chain(tuple(self._todo), self._arriving(shards))
        for _ in itertools.chain([None], self._process(tasks, self.stages), [None]):
            new = self._reports[told:]  # also those of shards that were named but are done
            told += len(new)
            yield from new

    def _arriving(self, shards: Iterable[str | None]) -> Iterator[ShardTask | NotYet]:
        for shard in shards:
            if shard is None:
                yield NOT_YET
                continue
            ((task, report),) = Planner(open_shards(self.config.path, [shard]), self.stages, self.config).found()
            if report is not None:
                self._reports.append(report)
            if task is not None:
                self._todo.append(task)
                yield task

    def _process(self, tasks: Iterable[ShardTask | NotYet], needed: Collection[str]) -> Iterator[ShardReport]:
        """Let the engine do them with the stages that are needed."""
        started = time.monotonic()
        opener = ShardProcessor(stages={name: stage for name, stage in self.stages.items() if name in needed})
        try:
            for outcome in self._engine.map(opener, tasks):
                if outcome.result is None:
                    shard = outcome.item.piece.shard
                    self._failed[shard] = outcome.error or "no reason was given"
                    logger.warning("shard %s failed: %s", shard, outcome.error)
                else:
                    self._reports.append(outcome.result)
                    yield outcome.result
        finally:
            self._seconds = time.monotonic() - started

    def summary(self) -> ProcessSummary:
        todo = {task.piece.shard for task in self._todo}
        done = {report.shard for report in self._reports if not report.skipped or report.shard not in todo}
        stages = {name: _summed(name, self._reports) for name in self.stages}
        errors = Counter[str]()
        for stage in stages.values():
            errors.update(stage.errors)
        done_now = sum(stage.rows for report in self._reports for stage in report.asked.values())
        return ProcessSummary(
            rows=sum(stage.rows for stage in stages.values()),
            successes=sum(stage.successes for stage in stages.values()),
            failed_by_error=dict(sorted(errors.items())),
            stages=stages,
            shards=len(done),
            skipped=len(done - todo),
            failed_shards=dict(sorted(self._failed.items())),
            bytes=sum(report.bytes for report in self._reports),
            seconds=round(self._seconds, 3),
            rows_per_second=round(done_now / self._seconds, 1) if self._seconds else 0.0,
        )


def _summed(name: str, reports: Iterable[ShardReport]) -> StageReport:
    """What a stage said about all shards; skipped if earlier runs had done them all."""
    found = [report.stages[name] for report in reports if name in report.stages]
    errors, totals = Counter[str](), Counter[str]()
    for report in found:
        errors.update(report.errors)
        totals.update(report.totals)
    return StageReport(
        rows=sum(report.rows for report in found),
        successes=sum(report.successes for report in found),
        errors=dict(sorted(errors.items())),
        skipped=bool(found) and all(report.skipped for report in found),
        totals=dict(totals),
    )


def _named(stages: Stage | Sequence[Stage] | Mapping[str, Stage], name: str | None) -> dict[str, Stage]:
    every = [stages] if isinstance(stages, Stage) else list(stages.values() if isinstance(stages, Mapping) else stages)
    names = list(stages) if isinstance(stages, Mapping) else [stage.name for stage in every]
    if name is not None and len(every) != 1:
        raise UsageError(f"name {name!r}: for one stage only; several stages have their own names")
    named = dict(zip(names if name is None else [name], every, strict=True))
    if len(named) != len(every):
        raise UsageError(f"stages {', '.join(names)}: each of them may be there once")
    return named
