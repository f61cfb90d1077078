"""Work on Spark: every try is a job of one task; a Python process of an executor opens its worker once.

Spark chooses the executor of each task, so a worker lives in the process that Spark keeps for Python there, for as long
as the run lasts, and the seat of a worker is only the right to have one job under way.
"""

import functools
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import Any

from tarloom.engines.base import Item, NotYet, Opener, Outcome, Result, Worker
from tarloom.engines.crew import Crew, Reply, close_worker, describe, open_worker, try_item
from tarloom.engines.spark_session import spark_session
from tarloom.engines.workers import check_workers
from tarloom.errors import EngineError, missing_extra

try:
    from py4j.protocol import Py4JError, Py4JJavaError
    from pyspark import SparkContext
    from pyspark.errors import PySparkException
except ImportError as error:
    raise missing_extra("spark", error) from error

CANCEL_SECONDS = 0.2
"""How long a cancelled job has to end before it is cancelled again: one that had not begun was not there to cancel."""
SETTINGS = {
    "spark.task.maxFailures": "1",  # tries are counted here, once
    "spark.log.level": "FATAL",  # what goes wrong with a task is our reply
}


class SparkEngine:
    """Runs workers in the Python processes of Spark's executors, `workers` tasks at once.

    A session that is there is used and left alone; else one is started, with spark-submit's master and settings or on
    this machine, and stopped again by `close`. Raises EngineError where Spark does not start.
    """

    def __init__(self, workers: int = 1) -> None:
        check_workers(workers)
        self.workers = workers
        self._session = ExitStack()
        self._context = self._session.enter_context(spark_session(workers, SETTINGS)).sparkContext

    def map(
        self, opener: Opener[Item, Result], items: Iterable[Item | NotYet], *, retries: int = 2
    ) -> Iterator[Outcome[Item, Result]]:
        run = uuid.uuid4().hex
        with ThreadPoolExecutor(self.workers, thread_name_prefix="spark-job") as threads:
            hire = functools.partial(_JobSeat, self._context, threads, functools.partial(_serve, run, opener))
            yield from Crew[Item](hire=hire, wait=_wait, size=self.workers).run(items, retries=retries)

    def close(self) -> None:
        """Leave the session, and stop it if it was started here."""
        self._session.close()


class _JobSeat:
    """One job at a time, in a thread that waits for it."""

    def __init__(self, context: SparkContext, threads: ThreadPoolExecutor, serve: Callable[..., Any]) -> None:
        self._context = context
        self._threads = threads
        self._serve = serve
        self._group = f"tarloom-{uuid.uuid4().hex}"
        self._dismissed = False
        self.owed: Future[Reply] = threads.submit(self._job, [])

    def submit(self, item: Any, then: Any | None) -> None:
        """What comes next may be done by another process: it is not begun in this one."""
        self.owed = self._threads.submit(self._job, [item])

    def receive(self) -> Reply:
        return self.owed.result()

    def dismiss(self, *, at_once: bool) -> None:
        """A job that is under way is cancelled: Spark then ends its Python process."""
        self._dismissed = True
        while not wait([self.owed], timeout=0).done:
            try:
                self._context.cancelJobGroup(self._group)
            except (Py4JError, OSError):  # Spark itself is gone, and with it the job
                break
            wait([self.owed], timeout=CANCEL_SECONDS)

    def _job(self, items: Sequence[Any]) -> Reply:
        """Open a worker where Spark has none yet, and try the item if there is one."""
        if self._dismissed:
            return Reply(error="dismissed", lost=True)
        try:
            self._context.setJobGroup(self._group, "tarloom", interruptOnCancel=True)
            replies: list[Reply] = self._context.parallelize([items], 1).mapPartitions(self._serve).collect()
        except (Py4JJavaError, PySparkException) as error:
            return Reply(error=f"the Spark task failed: {_reason(error)}", lost=True)
        except (Py4JError, OSError) as error:
            return Reply(fatal=EngineError(f"Spark is gone: {describe(error)}; see its logs, and run again to go on"))
        return replies[0]


def _wait(seats: Sequence[_JobSeat], seconds: float | None) -> list[_JobSeat]:
    done, _ = wait([seat.owed for seat in seats], seconds, FIRST_COMPLETED)
    return [seat for seat in seats if seat.owed in done]


def _reason(error: Exception) -> str:
    """The last cause that Spark names before its Java frames begin."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "Exception: " in line or "failure: " in line]
    return (told or lines or [type(error).__name__])[0].rpartition("failure: ")[2].removeprefix(": ")


_worker: tuple[str, Worker[Any, Any]] | None = None
"""Of this Python process on an executor: the run that it was opened for, and the worker."""


def _serve(run: str, opener: Opener[Any, Any], partition: Iterable[Sequence[Any]]) -> Iterator[Reply]:
    """Runs on an executor: the worker of this process answers."""
    for items in partition:
        yield _answer(run, opener, items)


def _answer(run: str, opener: Opener[Any, Any], items: Sequence[Any]) -> Reply:
    global _worker
    if _worker is None or _worker[0] != run:
        _leave()
        worker, reply = open_worker(opener)
        if worker is None:
            return reply
        _worker = run, worker
    if not items:
        return Reply(opened=True)
    reply = try_item(_worker[1], items[0])
    if reply.lost:
        _leave()
    return reply


def _leave() -> None:
    """Close the worker that was opened for another run, or is broken."""
    global _worker
    if _worker is not None:
        close_worker(_worker[1])
        _worker = None
