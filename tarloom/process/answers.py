"""A stage's answers for one shard: those of earlier runs, then what comes, and in the end the sidecar."""

import errno
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import EngineError, ShardError, StorageError
from tarloom.format.sidecar import ERROR, FAILED, STATUS, SUCCESS, read_sidecar, write_sidecar
from tarloom.process.parts import ROW, Parts
from tarloom.process.stage import result_schema
from tarloom.process.task import Retry, StageReport, StageTask
from tarloom.read.plan.pieces import Piece

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""Reasons for which no other shard could be written either."""
TRANSIENT: frozenset[str] = frozenset()
"""Errors of rows that another try may not meet."""


class Answers:
    """Of one stage and shard. Safe to add to from several threads.

    columns: of the stage. under_way: rows of its batches; a shard of no more needs no parts.
    """

    def __init__(self, piece: Piece, task: StageTask, columns: pa.Schema, *, under_way: int) -> None:
        self._piece, self._task = piece, task
        self._schema = result_schema(columns)
        self._parts = Parts(storage=piece.storage, shard=piece.shard, info=task.info)
        self._keeps_parts = piece.rows > under_way
        self._found = list(self._of_earlier_runs())
        self._lock = Lock()
        self.done = np.zeros(piece.rows, bool)
        """Of shape (rows,): which rows are answered."""
        for table in self._found:
            self.done[table.column(ROW).to_numpy()] = True

    @property
    def missing(self) -> np.ndarray:
        """Numbers of the rows that are not answered, int64, ascending."""
        return np.flatnonzero(~self.done)

    def add(self, numbers: Sequence[int], answer: pa.Table) -> None:
        """Keep the answers of these rows, so that another run need not ask again."""
        if self._keeps_parts:
            with _room():
                self._parts.add(numbers, answer)
        with self._lock:
            self._found.append(answer.append_column(ROW, pa.array(numbers, pa.int64())))
            self.done[numbers] = True

    def of(self, numbers: Sequence[int]) -> pa.Table:
        """The answers of these rows, in this order."""
        with self._lock:
            found = pa.concat_tables(self._found)
        places = pc.index_in(pa.array(numbers, pa.int64()), value_set=found.column(ROW).combine_chunks())
        return found.take(places).drop_columns([ROW]).combine_chunks()

    def commit(self) -> StageReport:
        """Write the sidecar, the mark that this shard is done; then the parts go.

        Raises EngineError where nothing can be written at its place.
        """
        if not self.done.all():
            raise ShardError(f"{self._piece.url}: {len(self.missing)} rows have no answer; run the same command again")
        table = self._schema.empty_table()
        if self._found:
            found = pa.concat_tables(self._found)
            table = found.sort_by(ROW).drop_columns([ROW]).combine_chunks()
        with _room():
            write_sidecar(self._piece.storage, self._piece.shard, table, self._task.info)
        self._parts.drop()
        return report_of(table)

    def _of_earlier_runs(self) -> Iterator[pa.Table]:
        """Disjoint tables of answered rows: parts first, which are newer than a sidecar whose failures are retried."""
        done = np.zeros(self._piece.rows, bool)
        for table in (*self._parts.found(), *self._old_sidecar()):
            numbers = table.column(ROW).to_numpy()
            if table.schema.names != [*self._schema.names, ROW] or not (numbers < len(done)).all():
                continue
            new = ~done[numbers]
            done[numbers] = True
            yield table.filter(pa.array(new)).cast(self._schema.append(pa.field(ROW, pa.int64())))

    def _old_sidecar(self) -> Iterator[pa.Table]:
        if self._task.retry != "none":
            table = read_sidecar(self._piece.storage, self._piece.shard, self._task.name)
            again = np.array(to_retry(table, self._task.retry))
            yield table.append_column(ROW, pa.array(np.arange(table.num_rows))).filter(pa.array(~again))


def to_retry(table: pa.Table, retry: Retry) -> list[bool]:
    """Of each row, whether it is to be asked again."""
    if retry == "none":
        return [False] * table.num_rows
    statuses, errors = table.column(STATUS).to_pylist(), table.column(ERROR).to_pylist()
    return [s == FAILED and (retry == "all" or e in TRANSIENT) for s, e in zip(statuses, errors, strict=True)]


def report_of(table: pa.Table, *, skipped: bool = False) -> StageReport:
    """Successes, and the other rows by error."""
    statuses = Counter(table.column(STATUS).to_pylist())
    errors = Counter(error for error in table.column(ERROR).to_pylist() if error is not None)
    return StageReport(
        rows=table.num_rows, successes=statuses[SUCCESS], errors=dict(sorted(errors.items())), skipped=skipped
    )


@dataclass(frozen=True)
class _room:
    """Raises EngineError where no other file could be written either."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        cause = error.__cause__ if isinstance(error, StorageError) else None
        if isinstance(cause, OSError) and cause.errno in NO_ROOM:
            raise EngineError(str(error)) from error
