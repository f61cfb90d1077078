"""Work on this machine: in this process with one worker, in processes of their own with more.

They are forked from a server process that has nothing but the worker's modules loaded: these are loaded once, whatever
the number of workers, and no thread or lock of this process is copied. Worker processes do not outlive this one,
however it ends, and a worker that dies is replaced.
"""

import contextlib
import gc
import os
import signal
import threading
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from multiprocessing import connection, get_context, parent_process, resource_tracker
from typing import Any

from tarloom.engines.base import Item, NotYet, Opener, Outcome, Result
from tarloom.engines.crew import Backlog, Crew, Reply, close_worker, open_worker, try_item
from tarloom.engines.main_program import check_sendable, no_main_is_looked_for
from tarloom.engines.workers import check_workers, share_of, visible_gpus
from tarloom.errors import EngineError

CLOSING_SECONDS = 10.0
"""How long a worker process may take to close before it is stopped."""
_STARTING = "check that TMPDIR is short (under 70 characters) and can be written to, and the limits (ulimit -n, -u)"
"""What it takes to start one: a socket with a short path, files and processes."""


class LocalEngine:
    """Runs workers on this machine. One worker runs inline, so that a debugger and Ctrl-C work as in any loop; unless
    it is to have a process of its own, so that its caller can do something else meanwhile."""

    def __init__(self, workers: int = 1, *, inline: bool = True) -> None:
        check_workers(workers)
        self.workers = workers
        self._inline = inline and workers == 1
        self._places = list(range(workers))
        """Of workers that are not there: a worker that is replaced leaves its share of the machine to the next."""

    def map(
        self, opener: Opener[Item, Result], items: Iterable[Item | NotYet], *, retries: int = 2
    ) -> Iterator[Outcome[Item, Result]]:
        if self._inline:
            yield from _run_inline(opener, items, retries)
        else:
            check_sendable(opener, "work with one worker")
            crew = Crew[Item](hire=lambda: self._hire(opener), wait=_wait, size=self.workers)
            yield from crew.run(items, retries=retries)

    def close(self) -> None:
        """Nothing to stop: the worker processes of a `map` end with it."""

    def _hire(self, opener: Opener[Any, Any]) -> "_ProcessSeat":
        """A worker that is told its share of the CPUs, unless the user has told all theirs, and of the GPUs."""
        place = self._places.pop(0)
        share = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // self.workers)), **os.environ}
        gpus = visible_gpus()
        if gpus:
            share["CUDA_VISIBLE_DEVICES"] = ",".join(share_of(gpus, worker=place, workers=self.workers))
        return _ProcessSeat(opener, share, leave=lambda: insort(self._places, place))


def _run_inline(
    opener: Opener[Item, Result], items: Iterable[Item | NotYet], retries: int
) -> Iterator[Outcome[Item, Result]]:
    backlog = Backlog(items, retries=retries, ahead=1)
    worker, then = None, None
    try:
        while (task := then or backlog.wait()) is not None:
            if worker is None:
                worker, opened = open_worker(opener)
                _raise_fatal(opened)
            assert worker is not None
            then = backlog.take_beside(task, least=1) if opened.begins else None
            reply = try_item(worker, task.item, None if then is None else then.item)
            _raise_fatal(reply)
            if reply.lost:
                close_worker(worker)
                worker = None
            outcome = (
                Outcome(item=task.item, result=reply.result)
                if reply.error is None
                else backlog.failed(task, reply.error)
            )
            if outcome is not None:
                yield outcome
    finally:
        close_worker(worker)


def _raise_fatal(reply: Reply) -> None:
    if reply.fatal is not None:
        raise reply.fatal


class _ProcessSeat:
    """A process with one worker, at the other end of a pipe."""

    def __init__(self, opener: Opener[Any, Any], environment: Mapping[str, str], *, leave: Callable[[], None]) -> None:
        self._leave = leave
        context = get_context("forkserver")
        modules = ["tarloom.engines.no_collector", "__main__", *getattr(opener, "modules", ())]
        context.set_forkserver_preload(modules)  # of use until the server runs
        self.pipe, theirs = context.Pipe()
        # The server keeps the environment that it was started with.
        self._process = context.Process(target=_serve, args=(theirs, opener, environment), daemon=True)
        with interrupts_end_here():
            self._process.start()
        theirs.close()

    def submit(self, item: Any, then: Any | None) -> None:
        with contextlib.suppress(BrokenPipeError):  # it died while idle: its end of the pipe now reads as lost
            self.pipe.send((item, then))

    def receive(self) -> Reply:
        try:
            reply: Reply = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            return Reply(error=self._cause_of_death(), lost=True)
        return reply

    def dismiss(self, *, at_once: bool) -> None:
        self.pipe.close()
        if not at_once:
            self._process.join(CLOSING_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()
        self._leave()

    def _cause_of_death(self) -> str:
        self._process.join(CLOSING_SECONDS)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"the worker process was killed by {signal.Signals(-code).name}"
        return f"the worker process ended with exit code {code}"


@contextlib.contextmanager
def interrupts_end_here() -> Iterator[None]:
    """Processes spawned inside inherit a mask: Ctrl-C reaches this process alone, which then stops its workers.

    Raises EngineError where the system lets none be started.
    """
    _start_tracker()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with no_main_is_looked_for():
            yield
    except OSError as error:
        raise EngineError(f"no worker process can be started: {error.strerror or error}; {_STARTING}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_tracker() -> None:
    """Start what cleans up after killed workers: before SIGINT is blocked, as it unblocks it, and told to be quiet."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning"
    try:
        resource_tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def _wait(seats: Sequence[_ProcessSeat], seconds: float | None) -> list[_ProcessSeat]:
    ready = set(connection.wait([seat.pipe for seat in seats], seconds))
    return [seat for seat in seats if seat.pipe in ready]


def _serve(pipe: "connection.Connection[Reply, Any]", opener: Opener[Any, Any], environment: Mapping[str, str]) -> None:
    """The life of a worker process: open, then try items until the pipe closes."""
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=end_with_parent, daemon=True).start()
    worker, opened = open_worker(opener)
    pipe.send(opened)
    if worker is None:
        return
    gc.freeze()  # What is loaded stays: the collector need not look at it again and again.
    gc.enable()
    with contextlib.suppress(EOFError, ConnectionError):  # the other end was closed, maybe before it had all replies
        while True:
            item, then = pipe.recv()
            pipe.send(try_item(worker, item, then))
    close_worker(worker)


def end_with_parent() -> None:
    """Wait, in a thread, for the end of the process that started this one; then end at once."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
