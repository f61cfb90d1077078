"""Evaluate a SQL condition on Arrow tables. Prepared statements are kept and reused, since preparing one takes ten
times as long as running it."""

import atexit
import contextlib
import functools
import os
from threading import Semaphore

import duckdb
import numpy as np
import pyarrow as pa

from tarloom import errors
from tarloom.errors import UsageError
from tarloom.format.cpus import cpu_share
from tarloom.format.index import KEY
from tarloom.read.columns.sql import TABLE, cursor, for_duckdb
from tarloom.read.view import Where

_KEPT = 32
"""Evaluators that wait to be used again, of all conditions together."""


def passing_rows(where: Where, table: pa.Table, *, place: str) -> np.ndarray:
    """Numbers of the rows for which the condition is true, ascending: int64 of shape (rows that pass,).

    table: `__key__` and the condition's columns by name. place: where the rows are from, for messages. Raises
    UsageError where a value is not as the condition wants it.
    """
    try:
        with _turns(os.getpid()):
            evaluator = _idle.take(where) or _Evaluator(where)
            found = evaluator.rows(for_duckdb(table))
            _idle.keep(where, evaluator)
    except duckdb.Error as error:
        advice = "TRY_CAST makes NULL of what is no such value"
        raise UsageError(f"{place}: where {where.sql}: {first_line(error)}; {advice}") from error
    return found


@functools.cache  # a forked process has its own: who held its parent's is not there
def _turns(process: int) -> Semaphore:
    """As many may ask at a time as there are CPUs: it is nothing but work, and threads that wait for storage would each
    prepare a statement of their own."""
    return Semaphore(cpu_share())


def no_rows(where: Where) -> pa.Table:
    """A table as the condition is asked of: `__key__`, and its columns."""
    return pa.schema([(KEY, pa.string()), *((column.name, column.type) for column in where.columns)]).empty_table()


def first_line(error: Exception) -> str:
    """Of duckdb's message, without the exclamation mark that some end in."""
    return errors.first_line(error).rstrip("!")


class _Evaluator:
    """A prepared condition, for one thread at a time."""

    def __init__(self, where: Where) -> None:
        self._source = _Source(for_duckdb(no_rows(where)))
        self._database = cursor()
        self._database.register(TABLE, self._source)
        answer = f"coalesce(CAST({where.sql} AS BOOLEAN), false) AS found"
        self._database.execute(f"PREPARE condition AS SELECT {answer} FROM {TABLE}")

    def rows(self, table: pa.Table) -> np.ndarray:
        """Numbers of the rows for which it is true. Raises duckdb.Error."""
        nothing, self._source.table = self._source.table, table
        try:
            return np.flatnonzero(self._database.execute("EXECUTE condition").fetchnumpy()["found"])
        finally:
            self._source.table = nothing

    def close(self) -> None:
        """It cannot be asked any more."""
        self._database.close()


class _Source:
    """A table for duckdb that may be another one each time."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        stream: object = self.table.__arrow_c_stream__()  # type: ignore[no-untyped-call]
        return stream


class _Idle:
    """Evaluators of this process that nobody is using, of the last few conditions."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._evaluators: list[tuple[Where, _Evaluator]] = []
        atexit.register(self.close)  # duckdb complains about connections that outlive Python

    def take(self, where: Where) -> _Evaluator | None:
        """One of this condition, if there is one."""
        if self._process != os.getpid():  # a forked process leaves its parent's alone
            self._process, self._evaluators = os.getpid(), []
        for pair in reversed(self._evaluators.copy()):
            if pair[0] == where:
                with contextlib.suppress(ValueError):  # another thread was faster
                    self._evaluators.remove(pair)
                    return pair[1]
        return None

    def keep(self, where: Where, evaluator: _Evaluator) -> None:
        """For the next time; the oldest is let go."""
        self._evaluators.append((where, evaluator))
        if len(self._evaluators) > _KEPT:
            self._evaluators.pop(0)[1].close()

    def close(self) -> None:
        """Let go of all."""
        while self._evaluators:
            self._evaluators.pop()[1].close()


_idle = _Idle()
