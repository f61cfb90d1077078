"""Creation in a process of its own, which tells of each shard when it is whole. It ends with the process that asked."""

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import connection, get_context
from typing import Any

from tarloom.create.config import CreateConfig
from tarloom.create.job import CreateJob
from tarloom.create.lean import become_lean
from tarloom.create.summary import CreateSummary
from tarloom.engines.base import Report
from tarloom.engines.choose import EngineConfig, open_engine
from tarloom.engines.local import end_with_parent, interrupts_end_here
from tarloom.engines.signals import stop_as_by_ctrl_c
from tarloom.errors import EngineError, TarloomError

STOPPING_SECONDS = 20.0
"""How long it may take to end when it is asked to, before it is made to."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The first that creation tells."""

    shards: tuple[str, ...]
    """In order."""
    rows: int


class Creation:
    """Shards that are being made. Close it after use: what is not done yet is left for another run.

    watch: called from another thread with the report of each shard that is whole.
    """

    def __init__(self, config: CreateConfig, run_on: EngineConfig, watch: Callable[[Report], None]) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_create, args=(config, run_on, theirs), name="tarloom-create")
        self._watch = watch
        self._whole: deque[Report] = deque()
        self._end: CreateSummary | Exception | None = None
        with interrupts_end_here():
            self._process.start()
        theirs.close()
        self._listener = threading.Thread(target=self._listen, name="tarloom-create", daemon=True)

    def planned(self) -> Planned:
        """What will be made; shards are begun now. Raises what keeps it from being made, such as UsageError."""
        told = self._told()
        if isinstance(told, Exception):
            self._end = told
            raise told
        assert isinstance(told, Planned)
        self._listener.start()
        return told

    def shards(self, *, done_before: bool) -> Iterator[str | None]:
        """Names of shards as they become whole, None where there is none now. done_before: also of those that were.

        Raises what ended creation before all were made.
        """
        while True:
            ended = self._end  # asked before the queue is: behind its end nothing comes
            while self._whole:
                report = self._whole.popleft()
                if done_before or not report.skipped:
                    yield report.shard
            if isinstance(ended, Exception):
                raise ended
            if ended is not None:
                return
            yield None

    def summary(self) -> CreateSummary:
        """Once there are no more shards."""
        assert isinstance(self._end, CreateSummary)
        return self._end

    def close(self) -> None:
        """Stop it where it is not through. A shard that is half-done is no shard."""
        if self._process.is_alive() and self._end is None:
            self._process.terminate()
        self._process.join(STOPPING_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        if self._listener.ident is not None:
            self._listener.join()
        self._pipe.close()
        self._process.close()

    def _listen(self) -> None:
        while self._end is None:
            told = self._told()
            if isinstance(told, Report):
                self._watch(told)
                self._whole.append(told)
            else:
                self._end = told

    def _told(self) -> Any:
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode
            how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
            return EngineError(f"the process that creates shards ended {how}; run the same command again to go on")


def _create(config: CreateConfig, run_on: EngineConfig, pipe: "connection.Connection[Any, Any]") -> None:
    """The life of that process: until all is made and told, or it is asked to stop."""
    stop_as_by_ctrl_c()
    threading.Thread(target=end_with_parent, daemon=True).start()
    if run_on.engine == "local":
        become_lean()
    try:
        pipe.send(_created(config, run_on, pipe.send))
    except KeyboardInterrupt:
        pass  # nobody listens any more
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends already


def _created(config: CreateConfig, run_on: EngineConfig, tell: Callable[[Any], None]) -> CreateSummary | TarloomError:
    """Tell what is planned, then of each shard; return how it all ended."""
    try:
        with closing(open_engine(run_on)) as engine:
            job = CreateJob(config, engine)
            job.prepare()
            tell(Planned(shards=tuple(job.shards), rows=job.total))
            for report in job:
                if report.rows:  # else it failed, and the summary will say why
                    tell(report)
        return job.summary()
    except TarloomError as error:
        return error
