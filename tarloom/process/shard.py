"""The one shard loop: read a shard's batches, decode them, let the stages answer, commit the answers as sidecars.

    read -> decode (threads, two batches ahead) -> stages (threads: as many batches side by side as they take together)
        -> parts, batch by batch -> sidecars, when all rows are answered

Rows that an earlier run has answered are not read again.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tarloom.process.answers import Answers
from tarloom.process.asking import Numbered, OpenStage, ask, open_stages
from tarloom.process.batch import Decoder
from tarloom.process.pipeline import ShardPipeline
from tarloom.process.reading import BatchReader
from tarloom.process.stage import Stage
from tarloom.process.task import ShardReport, ShardTask, shard_report
from tarloom.process.times import Clock

Thing = TypeVar("Thing")


@dataclass(frozen=True, kw_only=True)
class ShardProcessor:
    """Opens stages and runs them over shards: what is sent to an engine."""

    stages: Mapping[str, Stage]
    """By the sidecars' names."""

    def __call__(self) -> "OpenProcessor":
        return OpenProcessor(self.stages)

    def pipeline(self) -> ShardPipeline:
        """The same in pieces, for engines that spread them over machines."""
        return ShardPipeline(stages=self.stages)


class OpenProcessor:
    """Stages that are open, and the one decoder that they share. May be given several shards side by side."""

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
        self._shard, self._decoder = task.piece.shard, decoder
        self._stages = {wanted.name: stages[wanted.name] for wanted in task.stages}
        self._answers = {
            wanted.name: Answers(task, wanted, stages[wanted.name].stage, stages[wanted.name].worker.columns)
            for wanted in task.stages
        }
        self._clock = Clock()
        self._reader = BatchReader(task, [stage.stage for stage in self._stages.values()], decoder, self._clock)

    def run(self) -> ShardReport:
        started = time.monotonic()
        self._answer_all()
        with self._clock("write"):
            reports = {name: answers.commit() for name, answers in self._answers.items()}
        return shard_report(
            self._shard,
            reports,
            bytes=self._reader.bytes,
            seconds=time.monotonic() - started,
            seconds_in={name: round(seconds, 6) for name, seconds in self._clock.seconds.items()},
        )

    def _answer_all(self) -> None:
        """Ask about all rows that some stage has not answered."""
        answered = np.logical_and.reduce([answers.done for answers in self._answers.values()])
        side_by_side = sum(stage.stage.calls for stage in self._stages.values())  # a batch for every seat
        # closed here: a collector that closed it, where it happens to run, would wait there for the reader's threads
        with closing(self._reader(np.flatnonzero(~answered))) as batches:
            try:
                _side_by_side(self._answer, self._awaited(batches), threads=side_by_side)
            except Exception:
                raise
            except BaseException:
                self._decoder.close()  # nobody waits for what it has yet to decode
                raise

    def _awaited(self, batches: Iterator[Numbered]) -> Iterator[Numbered]:
        while (batch := self._clock.next("wait", batches)) is not None:
            yield batch

    def _answer(self, numbered: Numbered) -> None:
        ask(self._stages, self._answers, numbered, self._clock)


def _side_by_side(work: Callable[[Thing], None], things: Iterable[Thing], *, threads: int) -> None:
    """Hand the things to threads, never more than these at a time; the first error ends it.

    Who interrupts it does not wait for what is under way.
    """
    pool, pending = ThreadPoolExecutor(threads, thread_name_prefix="tarloom-stage"), set[Future[None]]()
    try:
        for thing in things:
            if len(pending) == threads:
                pending = _without_done(pending)
            pending.add(pool.submit(work, thing))
        while pending:
            pending = _without_done(pending)
    except BaseException as error:
        pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
        raise
    pool.shutdown()


def _without_done(pending: set[Future[None]]) -> set[Future[None]]:
    """Those that are still under way, after waiting for one to be through. Raises its error."""
    done, others = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    return others
