"""A stage's answers for one shard: those of earlier runs, then what comes, and in the end the sidecar."""

import errno
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import CorruptShard, EngineError, ShardError, StorageError
from tarloom.format.sidecar import (
    ERROR,
    FAILED,
    NOT_IN_SOURCE,
    STATUS,
    SUCCESS,
    read_sidecar,
    sidecar_info,
    write_sidecar,
)
from tarloom.format.storage.local_errors import NO_ROOM, is_caused_by
from tarloom.process.loop.parts import ROW, Parts
from tarloom.process.stage import Stage, result_schema
from tarloom.process.task import Again, RowsTask, StageReport, StageTask

UNWRITABLE = NO_ROOM | {errno.EACCES, errno.EPERM}
"""Reasons for which no other shard could be written either: all lie in one folder."""
UNANSWERED = -1


class Answers:
    """One stage's results for one shard: those of earlier runs, then those of this one. Thread-safe.

    task: the shard's; wanted: of this stage; columns: of its worker, or None where that is not open: then what earlier
    runs have said is believed as it is.
    """

    def __init__(self, task: RowsTask, wanted: StageTask, stage: Stage, columns: pa.Schema | None) -> None:
        self._task, self._wanted, self.stage = task, wanted, stage
        self._schema = None if columns is None else result_schema(columns)
        self._parts = Parts(storage=task.storage, shard=task.shard, info=wanted.info, retry=wanted.retry)
        self._keeps_parts = task.keep and task.rows > stage.batch_size
        """Small shards write no parts: a killed run redoes them whole, which is cheap."""
        self._added: list[pa.Table] = []
        self._tables: list[pa.Table] = []
        self._table_of = np.full(task.rows, UNANSWERED)
        """Of shape (rows,): which table answers each row."""
        self._place_of = np.zeros(task.rows, np.int64)
        """Of shape (rows,): and at which of its rows."""
        self._lock = Lock()
        if task.keep:
            self._find()

    @property
    def done(self) -> np.ndarray:
        """Which rows are answered: bool of shape (rows,)."""
        return np.asarray(self._table_of != UNANSWERED)

    def add(self, numbers: Sequence[int], answer: pa.Table) -> None:
        """Keep the answers of these rows, so that another run need not ask again.

        Raises EngineError where nothing can be written at their place.
        """
        if self._keeps_parts:
            with room():
                self._parts.add(numbers, answer)
        self._hold(np.asarray(numbers, np.int64), answer)
        self._added.append(answer)

    @property
    def asked(self) -> StageReport:
        """What was said of the rows that were asked now."""
        return asked_report(self._added, self.stage)

    def of(self, numbers: Sequence[int]) -> pa.Table:
        """The answers of these rows, in this order. All of them must be there."""
        wanted = np.asarray(numbers, np.int64)
        if not len(wanted):
            return (self._schema or pa.schema([])).empty_table()
        tables, places = self._table_of[wanted], self._place_of[wanted]
        _, first, which = np.unique(tables, return_index=True, return_inverse=True)
        group = np.argsort(np.argsort(first))[which]  # tables, numbered as they come
        order = np.argsort(group, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
        found = pa.concat_tables([_rows(self._tables[tables[rows[0]]], places[rows]) for rows in groups])
        return found if _ascend(order) else found.take(np.argsort(order))

    def commit(self) -> StageReport:
        """Write the sidecar, the mark that this shard is done; then the parts go.

        Raises EngineError where nothing can be written at its place.
        """
        task, table = self._task, self.whole()
        if task.keep:
            with room():
                write_sidecar(task.storage, task.shard, table, self._wanted.info)
            self.drop_parts()
        return report_of(table, self.stage)

    def whole(self) -> pa.Table:
        """The answers of all rows. Raises ShardError where one has none."""
        missing = int((~self.done).sum())
        if missing:
            raise ShardError(f"{self._task.where}: {missing} rows have no answer; run the same command again")
        return self.of(range(self._task.rows))

    def drop_parts(self) -> None:
        """When the answers have become what is there for good."""
        self._parts.drop()

    def _hold(self, numbers: np.ndarray, answer: pa.Table) -> None:
        with self._lock:
            self._tables.append(answer)
            self._place_of[numbers] = np.arange(len(numbers))
            self._table_of[numbers] = len(self._tables) - 1

    def _find(self) -> None:
        """What earlier runs have answered: parts last, which are newer than a sidecar whose failures are retried.

        Parts of runs that asked otherwise are in no order: a failure never stands for an answer.
        """
        answered = np.zeros(len(self._table_of), bool)
        for numbers, table in (*self._in_sidecar(), *self._in_parts()):
            self._schema = self._schema or table.schema
            same = (table.schema.names, table.schema.types) == (self._schema.names, self._schema.types)
            if same and (numbers < len(self._table_of)).all():
                good = pc.equal(table.column(STATUS), pa.scalar(SUCCESS)).to_numpy()
                kept = np.flatnonzero(good | ~answered[numbers])
                answered[numbers] |= good
                self._hold(numbers[kept], _rows(table.cast(self._schema), kept))

    def _in_sidecar(self) -> Iterator[tuple[np.ndarray, pa.Table]]:
        task, wanted = self._task, self._wanted
        if wanted.amends:
            table = read_sidecar(task.storage, task.shard, wanted.name)
            kept = self._settled(table)
            yield kept, table.take(kept)
        elif self._was_committed():
            yield np.arange(task.rows), read_sidecar(task.storage, task.shard, wanted.name)

    def _was_committed(self) -> bool:
        """Since the run was planned: by a worker that died before it could say so."""
        try:
            return sidecar_info(self._task.storage, self._task.shard, self._wanted.name) == self._wanted.info
        except CorruptShard:  # something that the run is to overwrite
            return False

    def _in_parts(self) -> Iterator[tuple[np.ndarray, pa.Table]]:
        for retry, table in self._parts.found():
            if retry != self._wanted.retry:  # what this retry has answered, it has answered
                table = table.take(self._settled(table))
            yield table.column(ROW).to_numpy(), table.drop_columns([ROW])

    def _settled(self, table: pa.Table) -> np.ndarray:
        """Which of these answers are not asked for again."""
        return np.flatnonzero(~to_retry(table, self._wanted.retry, self.stage))


def _rows(table: pa.Table, places: np.ndarray) -> pa.Table:
    """These rows of a table, without a copy where they are one behind the other."""
    return table.slice(int(places[0]), len(places)) if _ascend(places) else table.take(places)


def _ascend(numbers: np.ndarray) -> bool:
    return bool((np.diff(numbers) == 1).all())


def to_retry(table: pa.Table, again: Again, stage: Stage) -> np.ndarray:
    """Which rows are to be asked again: bool of shape (rows,). Or for the first time: those from another dataset."""
    statuses, errors = table.column(STATUS), table.column(ERROR)
    wanted = _is_any(errors, {NOT_IN_SOURCE})
    if again == "unsuccessful":
        wanted |= ~_is_any(statuses, {SUCCESS})
    elif again != "none":
        failed = _is_any(statuses, {FAILED})
        wanted |= failed if again == "all" else failed & _is_any(errors, stage.transient)
    return wanted


def _is_any(texts: "pa.ChunkedArray[Any]", of: Set[str]) -> np.ndarray:
    return np.asarray(pc.is_in(texts, value_set=pa.array(sorted(of), pa.string())).to_numpy(), bool)


def report_of(table: pa.Table, stage: Stage, *, skipped: bool = False) -> StageReport:
    """Successes, the other rows by error, and what the stage counts. table: at least these columns of its sidecar."""
    statuses = Counter(table.column(STATUS).to_pylist())
    errors = Counter(error for error in table.column(ERROR).to_pylist() if error is not None)
    return StageReport(
        rows=table.num_rows,
        successes=statuses[SUCCESS],
        errors=dict(sorted(errors.items())),
        skipped=skipped,
        totals={column: pc.sum(table.column(column)).as_py() or 0 for column in stage.counted},
    )


def asked_report(tables: Sequence[pa.Table], stage: Stage) -> StageReport:
    """As report_of, of several tables, or none."""
    return report_of(pa.concat_tables(tables), stage) if tables else StageReport(rows=0, successes=0)


@contextmanager
def room() -> Iterator[None]:
    """Turn a full, read-only or forbidden disk into EngineError: every other shard would fail the same way."""
    try:
        yield
    except StorageError as error:
        if is_caused_by(error, UNWRITABLE):
            raise EngineError(str(error)) from error
        raise
