"""Work on Ray Data: tasks read, a pool of actors answers, tasks write; each on whatever node has room for it.

    read (tasks: CPUs) -> answer (actors: GPUs, MIN to MAX of them) -> write (tasks: CPUs) -> finish (here)

There may be several steps of answering, each with actors of its own: a portion that one is through with is the next
one's at once. So nodes without a GPU read and decode for those that have one. What passes between them are rows of Ray
Data that each hold one portion of an item, so that portions keep their bounds. What goes wrong with a portion travels
in its row: one bad item does not end the run, and is tried again when all others have been.
"""

import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import pyarrow as pa

from tarloom.engines.base import STAGES_ALONE, Item, NotYet, Opener, Outcome, Pipeline, Pool, Result, Step
from tarloom.engines.crew import LOST_OPENINGS, Backlog, Reply, Task, open_worker, openings_lost, try_item
from tarloom.engines.ray_datasets import left_out, quiet_data, read_by_tasks, root_cause
from tarloom.engines.ray_rows import ROW, one_row, rows_of
from tarloom.engines.ray_session import first_line, no_node_has, ray_session, some_node_has
from tarloom.engines.workers import Workers
from tarloom.errors import EngineError, UsageError, missing_extra

try:
    import ray
    import ray.data
    from ray.data import ActorPoolStrategy
    from ray.exceptions import RayError
except ImportError as error:
    raise missing_extra("ray", error) from error

STORE_BYTES = 1 << 30
"""Of a cluster started here: decoded pictures pass through its object store."""
READING_CPUS = 1
WRITING_CPUS = 0.25
FINISHERS = 16
"""Items that are finished side by side: mostly waiting for storage."""


class RayDataEngine:
    """Runs the pipelines of openers that have one. All items that are there are taken at once.

    address: as for RayEngine. Raises UsageError where no cluster answers there, or it has no room for the least
    number of workers and for reading beside them.
    """

    def __init__(
        self,
        workers: Workers,
        *,
        cpus_per_worker: float = 1,
        gpus_per_worker: float = 0,
        address: str | None = None,
    ) -> None:
        self._pool = Pool(workers=workers, cpus=cpus_per_worker, gpus=gpus_per_worker)
        with ExitStack() as session:
            cpus = math.ceil(workers.most * cpus_per_worker) + READING_CPUS
            session.enter_context(ray_session(cpus=cpus, store_bytes=STORE_BYTES, address=address))
            _check_room([self._pool])
            self._session = session.pop_all()

    def map(
        self, opener: Opener[Item, Result], items: Iterable[Item | NotYet], *, retries: int = 2
    ) -> Iterator[Outcome[Item, Result]]:
        make = getattr(opener, "pipeline", None)
        if make is None:
            raise UsageError(STAGES_ALONE)
        pipeline: Pipeline = make()
        _check_room([step.pool or self._pool for step in pipeline.steps])
        backlog = Backlog(items, retries=retries, ahead=None)
        while (first := backlog.wait()) is not None:
            tasks = [first, *iter(backlog.take, None)]
            try:
                with (
                    quiet_data(logging.CRITICAL, known=()),
                    ThreadPoolExecutor(FINISHERS, "finish") as threads,
                ):
                    yield from _Round(pipeline, tasks, threads).run(self._rows(pipeline, tasks, retries), backlog)
            except RayError as error:
                raise EngineError(f"Ray Data failed: {first_line(error)}; see Ray's logs in /tmp/ray") from error

    def close(self) -> None:
        """Leave the cluster, and stop it if it was started here."""
        self._session.close()

    def _rows(self, pipeline: Pipeline, tasks: Sequence[Task[Any]], retries: int) -> ray.data.Dataset:
        """All portions of the items on their way. What a worker has when it dies fails with it: so items that are tried
        for the last time are done one portion at a time."""
        last = any(0 < task.failures == retries for task in tasks)
        begun = [ray.cloudpickle.dumps(begun) for begun in pipeline.begin([task.item for task in tasks])]
        reading = [partial(_read, pipeline, number, item) for number, item in enumerate(begun)]
        rows = read_by_tasks(reading, ROW, cpus=READING_CPUS)
        rows.context.target_max_block_size = 1  # every portion is handed on at once
        rows.context.max_errored_blocks = -1  # the round sees which portions never came
        for step in pipeline.steps:
            rows = self._answered(rows, step, len(tasks), last=last)
        write = partial(_write, pipeline)
        return rows.map_batches(write, batch_size=None, batch_format="pyarrow", num_cpus=WRITING_CPUS)

    def _answered(self, rows: ray.data.Dataset, step: Step, items: int, *, last: bool) -> ray.data.Dataset:
        """The rows, when they have been through a step. last: they are tried for the last time."""
        pool, calls = step.pool or self._pool, 1 if last else step.calls
        actors = ActorPoolStrategy(
            min_size=min(pool.workers.least, items),
            max_size=pool.workers.most,
            max_concurrent_calls_per_actor=calls,
            max_tasks_in_flight_per_actor=1 if last else 2 * calls,
            enable_true_multi_threading=True,
        )
        # Newer versions take what Ray's actors take here alone; without it a portion that kills is tried for ever.
        map_batches = getattr(rows, "map_batches_internal", rows.map_batches)
        answered: ray.data.Dataset = map_batches(
            _Answering,
            fn_constructor_args=(step, ray.remote(num_cpus=0)(_Openings).remote()),
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=actors,
            max_restarts=-1,
            max_task_retries=0 if last else 1,
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
        )
        return answered


def _check_room(pools: Sequence[Pool]) -> None:
    """Raises UsageError: pools that take all CPUs would wait for ever for what nobody can read, and workers that fit on
    no node for one that has room."""
    has, workers = ray.cluster_resources(), sum(pool.workers.least for pool in pools)
    cpus = sum(pool.workers.least * pool.cpus for pool in pools) + READING_CPUS
    gpus = sum(pool.workers.least * pool.gpus for pool in pools)
    if has.get("CPU", 0) < cpus or has.get("GPU", 0) < gpus:
        raise UsageError(
            f"the Ray cluster has {has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs; {workers} workers and "
            f"reading beside them need {cpus:g} and {gpus:g}: give fewer workers, --cpus-per-worker 0.5, or a larger "
            "cluster"
        )
    for pool in pools:
        if not some_node_has(cpus=pool.cpus, gpus=pool.gpus):
            raise UsageError(f"{no_node_has(cpus=pool.cpus, gpus=pool.gpus)}; ask for less, or use larger nodes")


class _Round:
    """Every item that is there is tried once."""

    def __init__(self, pipeline: Pipeline, tasks: Sequence[Task[Any]], threads: ThreadPoolExecutor) -> None:
        self._pipeline, self._tasks, self._threads = pipeline, tasks, threads
        self._came: Counter[int] = Counter()
        self._portions: dict[int, int] = {}
        self._receipts: dict[int, list[Any]] = {}
        self._errors: dict[int, str] = {}
        self._finishing: dict[Future[Reply], int] = {}
        self._unended = set(range(len(tasks)))

    def run(self, rows: ray.data.Dataset, backlog: Backlog[Any]) -> Iterator[Outcome[Any, Any]]:
        """Outcomes, as items end; those that failed go back to the backlog."""
        batches = rows.iter_batches(batch_size=None, batch_format="pyarrow")
        with left_out() as lost, closing(iter(batches)) as tables:
            for table in tables:
                for row in table.to_pylist():
                    self._take(row["number"], row["portions"], row["reply"])
                yield from self._ended(backlog, wait_for_all=False)
        yield from self._ended(backlog, wait_for_all=True)
        for number in sorted(self._unended):
            error = self._errors.get(number) or _lost(lost)
            yield from _outcome(backlog.failed(self._tasks[number], error))

    def _take(self, number: int, portions: int | None, replied: bytes | None) -> None:
        """A row has come. Raises what must end the run."""
        reply: Reply | None = None if replied is None else ray.cloudpickle.loads(replied)
        if reply is not None and reply.fatal is not None:
            raise reply.fatal
        if reply is not None and reply.error is not None:
            self._errors.setdefault(number, reply.error)
        if portions is not None:
            self._portions[number] = portions
        else:
            self._came[number] += 1
            self._receipts.setdefault(number, []).append(None if reply is None else reply.result)
        if self._came[number] == self._portions.get(number) and number not in self._errors:
            self._finishing[self._threads.submit(try_item, self._finish, number)] = number

    def _finish(self, number: int) -> Any:
        return self._pipeline.finish(self._tasks[number].item, self._receipts.pop(number, []))

    def _ended(self, backlog: Backlog[Any], *, wait_for_all: bool) -> Iterator[Outcome[Any, Any]]:
        """Of the items that are being finished."""
        for future in wait(self._finishing, timeout=None if wait_for_all else 0).done:
            number, reply = self._finishing.pop(future), future.result()
            self._unended.discard(number)
            if reply.fatal is not None:
                raise reply.fatal
            task = self._tasks[number]
            ended = Outcome[Any, Any](item=task.item, result=reply.result)
            yield from _outcome(ended if reply.error is None else backlog.failed(task, reply.error))


def _lost(errors: Sequence[BaseException]) -> str:
    """Why a part of an item never came, as far as Ray has said it."""
    said = [f"{type(cause).__name__}: {first_line(cause)}" for cause in map(root_cause, errors)]
    return f"a part of it was lost; Ray's last word: {said[-1]}" if said else "a worker died that had a part of it"


def _outcome(ended: Outcome[Any, Any] | None) -> Iterator[Outcome[Any, Any]]:
    """None, where the item will be tried again."""
    if ended is not None:
        yield ended


def _read(pipeline: Pipeline, number: int, item: bytes) -> Iterator[pa.Table]:
    """Runs in a task: the item's portions, then a row that says how many there were, or what went wrong."""
    rows, count = _portions(pipeline, number, item), 0
    while (reply := try_item(lambda _: next(rows, None), None)).result is not None:
        count += 1
        yield reply.result
    yield one_row(number=number, portions=count, reply=None if reply == Reply() else reply)


def _portions(pipeline: Pipeline, number: int, item: bytes) -> Iterator[pa.Table]:
    """In a row each. What fails before the first is found with it: Ray would leave it out without a word."""
    for portion in pipeline.read(ray.cloudpickle.loads(item)):
        yield one_row(number=number, item=item, portion=portion)


class _Answering:
    """Runs in an actor: the worker is opened there. One that breaks says why, and ends its process when it is given
    more: Ray begins another."""

    def __init__(self, step: Step, openings: Any) -> None:
        self._worker, self._broken = None, False
        me = ray.get_runtime_context().get_actor_id()
        if ray.get(openings.begun.remote(me)) > LOST_OPENINGS:
            self._opened = Reply(fatal=openings_lost("see Ray's logs in /tmp/ray"))
            return
        self._worker, self._opened = open_worker(step.open)
        openings.ended.remote(me)

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        for row in rows_of(rows):
            if row["portion"] is None:
                yield one_row(**row)
                continue
            if self._broken:
                os._exit(1)
            reply = self._opened if self._worker is None else try_item(self._worker, row["portion"])
            self._broken = self._broken or reply.lost
            done = reply.error is None and reply.fatal is None
            yield one_row(**row | ({"portion": reply.result} if done else {"portion": None, "reply": reply}))


class _Openings:
    """An actor that counts for each other one how often it began to open: Ray restarts those that die meanwhile, for
    ever."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begun(self, actor: str) -> int:
        self._begun[actor] += 1
        return self._begun[actor]

    def ended(self, actor: str) -> None:
        del self._begun[actor]


def _write(pipeline: Pipeline, rows: pa.Table) -> Iterator[pa.Table]:
    """Runs in a task: portions that were answered become receipts."""
    for row in rows_of(rows):
        portion = row["portion"]
        if portion is not None:
            row |= {"reply": try_item(partial(_write_one, pipeline, row["item"]), portion)}
        yield one_row(**row | {"item": None, "portion": None}).select(["number", "portions", "reply"])


def _write_one(pipeline: Pipeline, item: bytes, answer: Any) -> Any:
    return pipeline.write(ray.cloudpickle.loads(item), answer)
