"""The one shard loop: read a shard's batches, decode them, let the stages answer, commit the answers as sidecars.

    read -> decode (threads, two batches ahead) -> stages (threads: as many batches side by side as they take together)
        -> parts, batch by batch -> sidecars, when all rows are answered

Rows that an earlier run has answered are not read again.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import TypeVar

import numpy as np
import pyarrow as pa

from tarloom.engines.base import Pool
from tarloom.process.batch import Decoder
from tarloom.process.loop.answers import Answers
from tarloom.process.loop.asking import Numbered, OpenStage, ask, open_stages
from tarloom.process.loop.pipeline import ShardPipeline
from tarloom.process.loop.reading import BatchReader
from tarloom.process.loop.times import Clock
from tarloom.process.stage import Stage
from tarloom.process.task import RowsTask, ShardReport, shard_report

Thing = TypeVar("Thing")
SHARDS_AT_ONCE = 2
"""One whose batches are with the stages, and one that begins or ends."""


@dataclass(frozen=True, kw_only=True)
class ShardProcessor:
    """Opens stages and runs them over shards: what is sent to an engine."""

    stages: Mapping[str, Stage]
    """By the sidecars' names."""
    pools: Mapping[str, Pool] = field(default_factory=dict)
    """Of stages that may live apart from the others, where the engine can spread them."""

    def __call__(self) -> "OpenProcessor":
        return OpenProcessor(self.stages)

    def pipeline(self) -> ShardPipeline:
        """The same in pieces, for engines that spread them over machines."""
        return ShardPipeline(stages=self.stages, pools=self.pools)


class OpenProcessor:
    """Stages that are open, and the one decoder that they share. May be given several shards side by side.

    A shard that is known to come next is read ahead, and its batches follow as soon as those of the shard before it are
    all with the stages: models need not wait while a shard ends.
    """

    def __init__(self, stages: Mapping[str, Stage]) -> None:
        with ExitStack() as opened:
            self._decoder = Decoder()
            opened.callback(self._decoder.close)
            self._stages = open_stages(stages, opened)
            self._threads = ThreadPoolExecutor(SHARDS_AT_ONCE, thread_name_prefix="tarloom-shard")
            opened.callback(self._leave_shards)
            self.close = opened.pop_all().close
            """Frees what the workers hold."""
        self._begun: dict[str, Future[ShardReport]] = {}
        self._last, self._stopped, self._lock = Turn(), Event(), Lock()
        self._last.end()

    def begin(self, task: RowsTask) -> None:
        """Begin with a shard that will be asked for soon, behind those that were begun before."""
        with self._lock:
            if task.shard not in self._begun:
                before, self._last = self._last, Turn()
                work = _ShardWork(self._stages, self._decoder, task, (before, self._last), self._stopped)
                self._begun[task.shard] = self._threads.submit(work.run)

    def __call__(self, task: RowsTask) -> ShardReport:
        """Raises ShardError where the shard cannot be read, EngineError where nothing can be written at its place."""
        self.begin(task)
        try:
            return self._begun.pop(task.shard).result()
        except Exception:
            raise
        except BaseException:
            self._stopped.set()
            self._decoder.close()  # nobody waits for what it has yet to decode
            raise

    def _leave_shards(self) -> None:
        """Those that were begun and not asked for."""
        interrupted = self._stopped.is_set()
        self._stopped.set()
        self._threads.shutdown(wait=not interrupted, cancel_futures=True)


class Turn:
    """Keeps shards in order at the stages: a shard hands in its batches only after the one before it has handed in all
    of its own."""

    def __init__(self) -> None:
        self._over = Event()
        self._since = 0.0

    def end(self) -> None:
        if not self._over.is_set():
            self._since = time.monotonic()
            self._over.set()

    def wait(self) -> float:
        """Until it is over; since when it is."""
        self._over.wait()
        return self._since


class _ShardWork:
    """One shard on its way through the stages."""

    def __init__(
        self,
        stages: Mapping[str, OpenStage],
        decoder: Decoder,
        task: RowsTask,
        turns: tuple[Turn, Turn],
        stopped: Event,
    ) -> None:
        self._task, self._decoder, self._stopped = task, decoder, stopped
        self._turn_before, self._turn = turns
        self._started = time.monotonic()
        self._stages = {wanted.name: stages[wanted.name] for wanted in task.stages}
        self._clock = Clock()
        self._reader = BatchReader(task, [stage.stage for stage in self._stages.values()], decoder, self._clock)

    def run(self) -> ShardReport:
        try:
            answers = self._answer_all()
        finally:
            self._turn.end()
        with self._clock("write"):
            reports = self._task.commit(answers)
        return shard_report(
            self._task.shard,
            reports,
            asked={name: answer.asked for name, answer in answers.items()},
            bytes=self._reader.bytes,
            seconds=time.monotonic() - self._started,
            seconds_in={name: round(seconds, 6) for name, seconds in self._clock.seconds.items()},
        )

    def _answer_all(self) -> dict[str, Answers]:
        """Ask about all rows that some stage has not answered."""
        answers = {
            wanted.name: Answers(self._task, wanted, self._stages[wanted.name].stage, self._columns(wanted.name))
            for wanted in self._task.stages
        }
        answered = np.logical_and.reduce([each.done for each in answers.values()])
        side_by_side = sum(stage.stage.calls for stage in self._stages.values())  # a batch for every seat
        # closed here: a collector that closed it, where it happens to run, would wait there for the reader's threads
        with closing(self._reader(np.flatnonzero(~answered))) as batches:
            try:
                _side_by_side(
                    lambda batch: ask(self._stages, answers, batch, self._clock),
                    self._awaited(batches),
                    threads=side_by_side,
                )
            except Exception:
                raise
            except BaseException:
                self._decoder.close()  # nobody waits for what it has yet to decode
                raise
        return answers

    def _awaited(self, batches: Iterator[Numbered]) -> Iterator[Numbered]:
        """In this shard's turn, unless it is to be left; then it is the next one's."""
        batch, came = next(batches, None), time.monotonic()
        self._started = max(self._started, self._turn_before.wait())
        self._clock.seconds["wait"] += max(0, came - self._started)
        while batch is not None and not self._stopped.is_set():
            yield batch
            batch = self._clock.next("wait", batches)
        self._turn.end()

    def _columns(self, name: str) -> pa.Schema:
        return self._stages[name].worker.columns


def _side_by_side(work: Callable[[Thing], object], things: Iterable[Thing], *, threads: int) -> None:
    """Hand the things to threads, never more than these at a time; the first error ends it.

    Who interrupts it does not wait for what is under way.
    """
    pool, pending = ThreadPoolExecutor(threads, thread_name_prefix="tarloom-stage"), set[Future[object]]()
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


def _without_done(pending: set[Future[object]]) -> set[Future[object]]:
    """Those that are still under way, after waiting for one to be through. Raises its error."""
    done, others = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    return others
