"""The shard loop in pieces, for an engine that reads on one machine, answers on another and writes on a third.

What is read, asked and written is what the loop over a shard reads, asks and writes: every answered batch becomes a
part, wherever it was answered, and when all rows are answered the parts become the sidecar.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from tarloom.engines.base import Pool
from tarloom.format.index import KEY
from tarloom.format.sidecar import ERROR, STATUS
from tarloom.process.batch import Batch, Decoder
from tarloom.process.loop.answers import Answers, asked_report, report_of, room
from tarloom.process.loop.asking import ask, open_stages, seen_later
from tarloom.process.loop.parts import ROW, Parts, shards_with_parts
from tarloom.process.loop.portions import (
    Answer,
    Portion,
    Said,
    pack_answers,
    pack_portion,
    unpack_answers,
    unpack_portion,
)
from tarloom.process.loop.reading import BatchReader
from tarloom.process.loop.times import Clock
from tarloom.process.stage import Stage, columns_of, result_schema
from tarloom.process.task import RowsTask, ShardReport, StageReport, StageTask, shard_report


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A shard as it is when its reading is planned: whatever is written meanwhile, what is lost is read again."""

    task: RowsTask
    done: Mapping[str, bytes]
    """By the stages' names, for those that have answered any rows: these, as numpy packs bits."""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """For what one stage said about one batch."""

    stage: str
    columns: pa.Schema
    """Of its worker."""
    endings: pa.Table
    """Status, error, and what the stage counts."""
    bytes: int
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ShardPipeline:
    """See tarloom.engines.base.Pipeline. stages: by the sidecars' names."""

    stages: Mapping[str, Stage]
    pools: Mapping[str, Pool] = field(default_factory=dict)
    """Of stages that live apart from the others, by their names."""

    @property
    def steps(self) -> "list[StagesStep]":
        """Neighbours that do not live apart share a worker."""
        groups: list[list[str]] = []
        for name in self.stages:
            if not groups or {name, groups[-1][-1]} & self.pools.keys():
                groups.append([])
            groups[-1].append(name)
        return [
            StagesStep(
                stages={name: self.stages[name] for name in names},
                later={name: self.stages[name] for group in groups[place + 1 :] for name in group},
                pool=self.pools.get(names[0]),
            )
            for place, names in enumerate(groups)
        ]

    def begin(self, tasks: Sequence[RowsTask]) -> list[Begun]:
        """Only of shards that have something of earlier runs is it looked at."""
        storages = {task.storage.url: task.storage for task in tasks}
        parts = {(url, *pair) for url, storage in storages.items() for pair in shards_with_parts(storage)}
        return [self._begun(task, parts) for task in tasks]

    def read(self, begun: Begun) -> Iterator[pa.Buffer]:
        """Yield one portion per batch. If every row is already answered, yield one empty portion, so that the writer
        still learns each stage's columns."""
        task, clock, told = begun.task, Clock(), Counter[str]()
        stages = {wanted.name: self.stages[wanted.name] for wanted in task.stages}
        sizes = sorted({stage.at_least for stage in stages.values() if stage.at_least is not None})
        done = {name: _bits(begun.done.get(name), task.rows) for name in stages}
        earlier = {
            wanted.name: self._earlier(task, wanted, stages) for wanted in task.stages if done[wanted.name].any()
        }
        with closing(Decoder()) as decoder:
            reader = BatchReader(task, list(stages.values()), decoder, clock)
            wanted_rows = np.flatnonzero(~np.logical_and.reduce(list(done.values())))
            if not len(wanted_rows):
                empty = Batch(pa.RecordBatch.from_arrays([pa.array([], pa.string())], [KEY]), decoder)
                none = {name: Said(np.zeros(0, bool), pa.table({})) for name in stages}
                yield pack_portion(Portion(numbered=([], empty), said=none), ())
            for numbers, batch in reader(wanted_rows):
                said = {name: Said(~done[name][numbers], _seen(earlier.get(name), numbers)) for name in stages}
                seconds = Counter(clock.seconds) - told
                told += seconds
                portion = Portion(numbered=(numbers, batch), said=said, seconds=seconds, bytes=batch.rows.nbytes)
                yield pack_portion(portion, sizes)

    def left(self, tasks: Sequence[RowsTask]) -> int:
        """Rows that are still to be asked, by whichever stage has the most."""
        return sum(begun.task.rows - min(self._answered(begun)) for begun in self.begin(tasks))

    def write(self, begun: Begun, answered: Any) -> list[Receipt]:
        """The answers become parts. Raises EngineError where nothing can be written at their place."""
        return [self._written(begun.task, answer) for answer in unpack_answers(answered)]

    def finish(self, task: RowsTask, receipts: Sequence[Sequence[Receipt]]) -> ShardReport:
        """The parts become what they are kept for."""
        every = [receipt for portion in receipts for receipt in portion]
        seconds = Counter[str]()
        endings: dict[str, list[pa.Table]] = {wanted.name: [] for wanted in task.stages}
        for receipt in every:
            seconds.update(receipt.seconds)
            endings[receipt.stage].append(receipt.endings)
        return shard_report(
            task.shard,
            self._committed(task, every),
            asked={name: asked_report(tables, self.stages[name]) for name, tables in endings.items()},
            bytes=sum(receipt.bytes for receipt in every),
            seconds=sum(seconds.values()),
            seconds_in={name: round(spent, 6) for name, spent in seconds.items()},
        )

    def _begun(self, task: RowsTask, parts: set[tuple[str, str, str]]) -> Begun:
        done: dict[str, bytes] = {}
        for wanted in task.stages:
            place = (task.storage.url, task.shard, wanted.name)
            if task.keep and (wanted.amends or place in parts):
                answered = Answers(task, wanted, self.stages[wanted.name], None).done
                if answered.any():
                    done[wanted.name] = np.packbits(answered).tobytes()
        return Begun(task=task, done=done)

    def _answered(self, begun: Begun) -> list[int]:
        """How many rows each stage has answered."""
        return [int(_bits(begun.done.get(wanted.name), begun.task.rows).sum()) for wanted in begun.task.stages]

    def _earlier(self, task: RowsTask, wanted: StageTask, stages: Mapping[str, Stage]) -> "_Earlier | None":
        columns = [c.removeprefix(f"{wanted.name}.") for c in seen_later(wanted.name, stages.values())]
        return _Earlier(Answers(task, wanted, stages[wanted.name], None), columns) if columns else None

    def _written(self, task: RowsTask, answer: Answer) -> Receipt:
        wanted = next(each for each in task.stages if each.name == answer.stage)
        table, clock = answer.table.drop_columns([ROW]), Clock()
        if task.keep and len(table):
            parts = Parts(storage=task.storage, shard=task.shard, info=wanted.info, retry=wanted.retry)
            with room(), clock("write"):
                parts.add(answer.table.column(ROW).to_numpy().tolist(), table)
        return Receipt(
            stage=wanted.name,
            columns=columns_of(table.schema),
            endings=table.select([*self.stages[wanted.name].counted, STATUS, ERROR]),
            bytes=answer.bytes,
            seconds=Counter(answer.seconds) + Counter(clock.seconds),
        )

    def _committed(self, task: RowsTask, receipts: Sequence[Receipt]) -> dict[str, StageReport]:
        of = {wanted.name: [each for each in receipts if each.stage == wanted.name] for wanted in task.stages}
        if not task.keep:
            endings = {name: pa.concat_tables([each.endings for each in found]) for name, found in of.items()}
            return {name: report_of(table, self.stages[name]) for name, table in endings.items()}
        return task.commit({w.name: Answers(task, w, self.stages[w.name], of[w.name][0].columns) for w in task.stages})


@dataclass(frozen=True, kw_only=True)
class StagesStep:
    """See tarloom.engines.base.Step: stages that live in one worker."""

    stages: Mapping[str, Stage]
    later: Mapping[str, Stage]
    """Those of the steps after it."""
    pool: Pool | None

    @property
    def calls(self) -> int:
        return max(stage.calls for stage in self.stages.values())

    def open(self) -> "OpenStep":
        return OpenStep(self)


class OpenStep:
    """Stages that are open: from portions to what they say. May be given several side by side."""

    def __init__(self, step: StagesStep) -> None:
        self._later = step.later
        with ExitStack() as opened:
            self._decoder = Decoder()
            opened.callback(self._decoder.close)
            self._stages = open_stages(step.stages, opened)
            self.close = opened.pop_all().close
            """Frees what the workers hold."""

    def __call__(self, data: Any) -> pa.Buffer:
        """The answers; or, where stages after these are to be asked, the portion with the answers so far."""
        portion, clock = unpack_portion(data, self._decoder), Clock()
        numbers, batch = portion.numbered
        stages = {name: self._stages[name] for name in portion.said if name in self._stages}
        later = {name: said for name, said in portion.said.items() if name in self._later}
        if numbers:
            places = list(range(len(numbers)))
            batch = ask(stages, portion.said, (places, batch), clock, later=[self._later[name] for name in later])
        answers = [*portion.answers, *(self._answer(name, portion, clock) for name in stages)]
        if later:
            said = replace(portion, numbered=(numbers, batch), said=later, answers=answers)
            return pack_portion(said, batch.sizes)
        seconds = Counter(portion.seconds) + Counter(answers[0].seconds)
        return pack_answers([replace(answers[0], bytes=portion.bytes, seconds=seconds), *answers[1:]])

    def _answer(self, name: str, portion: Portion, clock: Clock) -> Answer:
        """With the rows' numbers in the shard; no rows where nothing was asked."""
        said, (numbers, _) = portion.said[name], portion.numbered
        empty = result_schema(self._stages[name].worker.columns).empty_table()
        rows = pa.array([numbers[place] for place in said.places], pa.int64())
        table = (empty if said.answer is None else said.answer).append_column(ROW, rows)
        return Answer(stage=name, table=table, seconds={name: clock.seconds[name]})


class _Earlier:
    """What a stage said in earlier runs, as later stages want to see it."""

    def __init__(self, answers: Answers, columns: Sequence[str]) -> None:
        self._answers, self._columns = answers, columns

    def of(self, numbers: Sequence[int]) -> pa.Table:
        """One row for each number; null where it has not been answered."""
        done = self._answers.done[numbers]
        found = self._answers.of([number for number, there in zip(numbers, done, strict=True) if there])
        places = np.where(done, np.cumsum(done) - 1, -1)
        indices = pa.array(places, mask=~done)
        return pa.table({column: found.column(column).take(indices) for column in self._columns})


def _seen(earlier: _Earlier | None, numbers: Sequence[int]) -> pa.Table:
    return pa.table({}) if earlier is None else earlier.of(numbers)


def _bits(packed: bytes | None, rows: int) -> np.ndarray:
    """Bool of shape (rows,)."""
    if packed is None:
        return np.zeros(rows, bool)
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=rows).astype(bool)
