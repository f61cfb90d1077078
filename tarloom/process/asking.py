"""Stages that are open, and how a batch goes through them: each is asked what it has not answered yet.

The same wherever a batch comes from and its answers go: the loop over a shard, or an engine that has its batches read
on one machine and answered on another.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from threading import Semaphore
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from tarloom.errors import EngineError
from tarloom.process.batch import Batch
from tarloom.process.stage import Stage, StageWorker
from tarloom.process.times import Clock

Numbered = tuple[list[int], Batch]
"""Rows of a shard by their numbers."""


class Answered(Protocol):
    """What a stage has said about a shard's rows so far."""

    @property
    def done(self) -> np.ndarray:
        """Bool of shape (rows,)."""
        ...

    def add(self, numbers: Sequence[int], answer: pa.Table) -> None:
        """Keep the answers of these rows."""
        ...

    def of(self, numbers: Sequence[int]) -> pa.Table:
        """The answers of these rows, in this order."""
        ...


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


def open_stages(stages: Mapping[str, Stage], closing: ExitStack) -> dict[str, OpenStage]:
    """All of them, by the sidecars' names; `closing` closes those that were opened, whatever happens."""
    opened: dict[str, OpenStage] = {}
    for name, stage in stages.items():
        opened[name] = OpenStage(stage)
        closing.callback(opened[name].worker.close)
    return opened


def ask(stages: Mapping[str, OpenStage], answered: Mapping[str, Answered], numbered: Numbered, clock: Clock) -> None:
    """Every stage's answers to the rows that it has not answered yet. Later stages see what earlier ones said."""
    numbers, batch = numbered
    for name, stage in stages.items():
        answers = answered[name]
        places = np.flatnonzero(~answers.done[numbers]).tolist()
        if places:
            asked = batch if len(places) == len(batch) else batch.select(places)
            with clock(name):
                answer = stage.answer(asked)
            with clock("write"):
                answers.add([numbers[place] for place in places], answer)
        wanted = seen_later(name, {name: other.stage for name, other in stages.items()})
        if wanted:
            batch = batch.joined(_columns(answers.of(numbers), name, wanted))


def seen_later(name: str, stages: Mapping[str, Stage]) -> list[str]:
    """Columns of this stage's answers, by their full names, that another stage of this run wants to see."""
    prefix = f"{name}."
    return sorted({column for stage in stages.values() for column in stage.inputs if column.startswith(prefix)})


def _columns(answers: pa.Table, name: str, wanted: Sequence[str]) -> "dict[str, pa.Array[Any]]":
    return {column: answers.column(column.removeprefix(f"{name}.")).combine_chunks() for column in wanted}
