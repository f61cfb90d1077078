"""Stages that are open, and how a batch goes through them: each is asked what it has not answered yet.

The same wherever a batch comes from and its answers go: the loop over a shard, or an engine that has its batches read
on one machine and answered on another.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from threading import Semaphore
from typing import Protocol

import numpy as np
import pyarrow as pa

from tarloom.engines.base import WorkerBroken
from tarloom.engines.crew import describe
from tarloom.errors import EngineError, ShardError, UsageError
from tarloom.format.arrow_types import Array
from tarloom.format.index import KEY
from tarloom.format.sidecar import ERROR, STATUS, STATUSES, SUCCESS
from tarloom.process.batch import Batch
from tarloom.process.loop.times import Clock
from tarloom.process.stage import Stage, StageWorker, result_schema

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
    """A stage and its worker: given no more batches at a time than it takes, and its answers looked at.

    Raises EngineError for a worker whose columns no sidecar can have.
    """

    def __init__(self, name: str, stage: Stage) -> None:
        self.stage = stage
        with _by_name(name):
            self.worker: StageWorker = stage.open()
            self.close = self.worker.close
            self._schema = result_schema(self.worker.columns)
        self.seat = Semaphore(stage.calls)
        """Taken while it is asked and its answer written: what is lost with a worker is what has a seat."""
        self._name, names = name, self._schema.names
        lacking = [column for column in stage.counted if column not in names]
        if lacking or len(set(names)) < len(names):
            self.close()
            wrong = f"it counts {lacking[0]}, which is not among" if lacking else "two columns have one name in"
            raise EngineError(f"stage {name}: {wrong} {', '.join(names)}")

    def answer(self, batch: Batch) -> pa.Table:
        """What the stage says. Raises EngineError for what is no answer to this batch: it would go on like that."""
        with _by_name(self._name):
            answer = self.worker(batch)
        wrong = self._wrong(answer, batch)
        if wrong is not None:
            raise EngineError(f"stage {self._name}: {wrong}; see tarloom.process.stage")
        return answer

    def _wrong(self, answer: pa.Table, batch: Batch) -> str | None:
        if not isinstance(answer, pa.Table):
            return f"answered with {answer!r:.80}, not with a table"
        if answer.schema != self._schema:
            found = dict(zip(answer.schema.names, map(str, answer.schema.types), strict=True))
            return f"its answer's columns are {found}, not those that it has named and a status"
        if not answer.column(KEY).combine_chunks().equals(batch.keys):
            return f"did not answer its {len(batch)} rows row for row: keys differ from those it was given"
        endings = zip(answer.column(STATUS).to_pylist(), answer.column(ERROR).to_pylist(), strict=True)
        wrong = [(status, error) for status, error in endings if _is_no_ending(status, error)]
        return f"status {wrong[0][0]!r} with the error {wrong[0][1]!r} is none" if wrong else None


@contextmanager
def _by_name(stage: str) -> Iterator[None]:
    """Whatever goes wrong in somebody's stage is told with its name. No sys.exit in there, or panic of Rust's, ends
    the program: without a word, and with an exit code that may say that all is well."""
    try:
        yield
    except (UsageError, EngineError, WorkerBroken, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ShardError(f"stage {stage}: {describe(error)}") from error


def _is_no_ending(status: str | None, error: str | None) -> bool:
    return status not in STATUSES or (status == SUCCESS) != (error is None)


def open_stages(stages: Mapping[str, Stage], closing: ExitStack) -> dict[str, OpenStage]:
    """All of them, by the sidecars' names; `closing` closes those that were opened, whatever happens."""
    opened: dict[str, OpenStage] = {}
    for name, stage in stages.items():
        opened[name] = OpenStage(name, stage)
        closing.callback(opened[name].close)
    return opened


def ask(
    stages: Mapping[str, OpenStage],
    answered: Mapping[str, Answered],
    numbered: Numbered,
    clock: Clock,
    *,
    later: Collection[Stage] = (),
) -> Batch:
    """Every stage's answers to the rows that it has not answered yet. Later stages see what earlier ones said.

    later: stages that will see the batch after these. Returns it, with what they want to see.
    """
    numbers, batch = numbered
    seeing = [*(stage.stage for stage in stages.values()), *later]
    for name, stage in stages.items():
        answers = answered[name]
        places = np.flatnonzero(~answers.done[numbers]).tolist()
        if places:
            asked = batch if len(places) == len(batch) else batch.select(places)
            with stage.seat:
                with clock(name):
                    answer = stage.answer(asked)
                with clock("write"):
                    answers.add([numbers[place] for place in places], answer)
        wanted = seen_later(name, seeing)
        if wanted:
            batch = batch.joined(_columns(answers.of(numbers), name, wanted))
    return batch


def seen_later(name: str, stages: Iterable[Stage]) -> list[str]:
    """Columns of this stage's answers, by their full names, that another stage of this run wants to see."""
    prefix = f"{name}."
    return sorted({column for stage in stages for column in stage.inputs if column.startswith(prefix)})


def _columns(answers: pa.Table, name: str, wanted: Sequence[str]) -> dict[str, Array]:
    return {column: answers.column(column.removeprefix(f"{name}.")).combine_chunks() for column in wanted}
