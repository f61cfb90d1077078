"""The one shard loop: read a shard's batches, decode them, let the stages answer, commit the answers as sidecars.

    read and decode (a thread, one batch ahead) -> stages (threads: as many batches side by side as a stage takes)
        -> parts, batch by batch -> sidecars, when all rows are answered

Rows that an earlier run has answered are not read again.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from threading import Semaphore
from typing import Any

import numpy as np
import pyarrow as pa

from tarloom.errors import EngineError, ShardError
from tarloom.process.answers import Answers
from tarloom.process.batch import Batch, Decoder
from tarloom.process.stage import Stage, StageWorker
from tarloom.process.task import ShardReport, ShardTask, shard_report
from tarloom.process.times import Clock
from tarloom.read.samples.batches import read_piece

Numbered = tuple[list[int], Batch]
"""Rows of a shard by their numbers."""


@dataclass(frozen=True, kw_only=True)
class ShardProcessor:
    """Opens stages and runs them over shards: what is sent to an engine."""

    stages: Mapping[str, Stage]
    """By the sidecars' names."""

    def __call__(self) -> "OpenProcessor":
        return OpenProcessor(self.stages)


class OpenStage:
    """A stage and its worker, given no more batches at a time than it takes."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.worker: StageWorker = stage.open()
        self._seats = Semaphore(stage.calls)

    def answer(self, batch: Batch) -> pa.Table:
        """What the stage says. Raises EngineError where it does not answer row for row."""
        with self._seats:
            answer = self.worker(batch)
        if not answer.column("__key__").combine_chunks().equals(batch.keys):
            raise EngineError("the stage did not answer its batch row for row: keys differ from those it was given")
        return answer


class OpenProcessor:
    """Stages that are open, and the one decoder that they share."""

    def __init__(self, stages: Mapping[str, Stage]) -> None:
        with ExitStack() as opened:
            self._decoder = Decoder()
            opened.callback(self._decoder.close)
            self._stages: dict[str, OpenStage] = {}
            for name, stage in stages.items():
                self._stages[name] = OpenStage(stage)
                opened.callback(self._stages[name].worker.close)
            self.close = opened.pop_all().close
            """Frees what the workers hold."""

    def __call__(self, task: ShardTask) -> ShardReport:
        """Raises ShardError where the shard cannot be read, EngineError where nothing can be written at its place."""
        return _ShardWork(self._stages, self._decoder, task).run()


class _ShardWork:
    """One shard on its way through the stages."""

    def __init__(self, stages: Mapping[str, OpenStage], decoder: Decoder, task: ShardTask) -> None:
        self._task, self._decoder = task, decoder
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
        self._bytes = 0

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
            bytes=self._bytes,
            seconds=time.monotonic() - started,
            seconds_in={name: round(seconds, 6) for name, seconds in self._clock.seconds.items()},
        )

    def _ahead(self) -> Iterator[Numbered]:
        """Batches of rows that some stage has not answered; the next one is made while the caller works on this."""
        batches = self._batches()
        with ThreadPoolExecutor(1, thread_name_prefix="tarloom-batches") as thread:
            coming = thread.submit(next, batches, None)
            while True:
                with self._clock("wait"):
                    batch = coming.result()
                if batch is None:
                    return
                coming = thread.submit(next, batches, None)
                yield batch

    def _batches(self) -> Iterator[Numbered]:
        wanted = np.flatnonzero(~np.logical_and.reduce([answers.done for answers in self._answers.values()]))
        if not len(wanted):
            return
        piece = replace(self._task.piece, only=tuple(wanted.tolist()))
        found, first = read_piece(piece, batch_rows=self._task.batch_rows), 0
        while True:
            with self._clock("read"):
                rows = next(found, None)
            if rows is None:
                break
            numbers = wanted[first : first + rows.num_rows].tolist()
            first, self._bytes = first + rows.num_rows, self._bytes + rows.nbytes
            yield numbers, self._decoded(Batch(rows, self._decoder))
        if first != len(wanted):
            raise ShardError(f"{piece.url}: {len(wanted)} rows planned, {first} read; open the dataset again")

    def _decoded(self, batch: Batch) -> Batch:
        with self._clock("decode"):
            for at_least in {stage.stage.at_least for stage in self._stages.values()}:
                if at_least is not None:
                    batch.pictures(at_least)
        return batch

    def _answer(self, numbered: Numbered) -> None:
        """Every stage's answers to the rows that it has not answered yet."""
        numbers, batch = numbered
        for name, stage in self._stages.items():
            answers = self._answers[name]
            places = np.flatnonzero(~answers.done[numbers]).tolist()
            if places:
                asked = batch if len(places) == len(batch) else batch.select(places)
                with self._clock(name):
                    answer = stage.answer(asked)
                with self._clock("write"):
                    answers.add([numbers[place] for place in places], answer)
            batch = batch.joined(self._seen_later(name, numbers))

    def _seen_later(self, name: str, numbers: Sequence[int]) -> "dict[str, pa.Array[Any]]":
        """Columns of this stage's answers that another stage of this run wants to see."""
        prefix = f"{name}."
        wanted = {c for stage in self._stages.values() for c in stage.stage.inputs if c.startswith(prefix)}
        if not wanted:
            return {}
        found = self._answers[name].of(numbers)
        return {c: found.column(c.removeprefix(prefix)).combine_chunks() for c in sorted(wanted)}


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
