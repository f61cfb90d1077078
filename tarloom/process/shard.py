"""The one shard loop: read a shard's batches, decode them, let the stages answer, commit the answers as sidecars.

    read and decode (a thread, one batch ahead) -> stages (threads: as many batches side by side as a stage takes)
        -> parts, batch by batch -> sidecars, when all rows are answered

Rows that an earlier run has answered are not read again.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from tarloom.process.answers import Answers
from tarloom.process.asking import Numbered, OpenStage, ask, open_stages
from tarloom.process.batch import Decoder
from tarloom.process.reading import BatchReader
from tarloom.process.stage import Stage
from tarloom.process.task import ShardReport, ShardTask, shard_report
from tarloom.process.times import Clock


@dataclass(frozen=True, kw_only=True)
class ShardProcessor:
    """Opens stages and runs them over shards: what is sent to an engine."""

    stages: Mapping[str, Stage]
    """By the sidecars' names."""

    def __call__(self) -> "OpenProcessor":
        return OpenProcessor(self.stages)


class OpenProcessor:
    """Stages that are open, and the one decoder that they share."""

    def __init__(self, stages: Mapping[str, Stage]) -> None:
        with ExitStack() as opened:
            self._decoder = Decoder()
            opened.callback(self._decoder.close)
            self._stages = open_stages(stages, opened)
            self.close = opened.pop_all().close
            """Frees what the workers hold."""

    def __call__(self, task: ShardTask) -> ShardReport:
        """Raises ShardError where the shard cannot be read, EngineError where nothing can be written at its place."""
        return _ShardWork(self._stages, self._decoder, task).run()


class _ShardWork:
    """One shard on its way through the stages."""

    def __init__(self, stages: Mapping[str, OpenStage], decoder: Decoder, task: ShardTask) -> None:
        self._task = task
        self._stages = {wanted.name: stages[wanted.name] for wanted in task.stages}
        self._answers = {
            wanted.name: Answers(
                task.piece,
                wanted,
                stages[wanted.name].worker.columns,
                under_way=stages[wanted.name].stage.batch_size,
            )
            for wanted in task.stages
        }
        self._clock = Clock()
        self._reader = BatchReader(task, [stage.stage for stage in self._stages.values()], decoder, self._clock)

    def run(self) -> ShardReport:
        started = time.monotonic()
        side_by_side = max(stage.stage.calls for stage in self._stages.values())
        with ThreadPoolExecutor(side_by_side, thread_name_prefix="tarloom-stage") as threads:
            _all_done(threads, self._ahead(), self._answer, side_by_side)
        with self._clock("write"):
            reports = {name: answers.commit() for name, answers in self._answers.items()}
        return shard_report(
            self._task.piece.shard,
            reports,
            bytes=self._reader.bytes,
            seconds=time.monotonic() - started,
            seconds_in={name: round(seconds, 6) for name, seconds in self._clock.seconds.items()},
        )

    def _ahead(self) -> Iterator[Numbered]:
        """Batches of rows that some stage has not answered; the next one is made while the caller works on this."""
        batches = self._reader(np.flatnonzero(~np.logical_and.reduce([a.done for a in self._answers.values()])))
        with ThreadPoolExecutor(1, thread_name_prefix="tarloom-batches") as thread:
            coming = thread.submit(next, batches, None)
            while True:
                with self._clock("wait"):
                    batch = coming.result()
                if batch is None:
                    return
                coming = thread.submit(next, batches, None)
                yield batch

    def _answer(self, numbered: Numbered) -> None:
        ask(self._stages, self._answers, numbered, self._clock)


def _all_done(
    threads: ThreadPoolExecutor, batches: Iterator[Numbered], work: Callable[[Numbered], None], side_by_side: int
) -> None:
    """Hand the batches to threads, never more than these at a time; the first error ends it."""
    pending: set[Future[None]] = set()
    for batch in batches:
        pending.add(threads.submit(work, batch))
        if len(pending) >= side_by_side:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
    for future in pending:
        future.result()
