"""How engines run items: one loop that hires workers, hands out items, retries, and gives up where that is right.

An engine brings only its kind of *seat*: a process or an actor in which one worker is opened and tries one item at a
time. Which item goes where, what counts as a failed try and when the run must end is decided here, once.
"""

import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol

from tarloom.engines.base import Item, NotYet, Opener, Outcome, Result, Worker, WorkerBroken
from tarloom.errors import EngineError, TarloomError, UsageError

LOST_OPENINGS = 3
"""So many workers in a row that die while they open mean a broken environment, not bad luck. Any hired before the last
such death do not count: a node that is lost takes several along."""
MOMENT = 0.1
"""Seconds after which a source is asked again that had no item yet."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a seat answers: it is open, or how one try ended."""

    opened: bool = False
    result: Any = None
    error: str | None = None
    """The try failed."""
    fatal: Exception | None = None
    """The run must end with this."""
    lost: bool = False
    """The worker is gone or of no more use: hire another."""
    begins: bool = False
    """The worker, which is open, begins with the next item while it ends the one before: say which that is."""


class Seat(Protocol):
    """A place where one worker is opened, then tries one item at a time."""

    def submit(self, item: Any, then: Any | None) -> None:
        """Begin a try. Called only after the seat said it is open, and when no try is under way.

        then: the item after this one, where that is known.
        """
        ...

    def receive(self) -> Reply:
        """The reply that is waiting; a reply with `lost` if the seat died."""
        ...

    def dismiss(self, *, at_once: bool) -> None:
        """Let the worker go. At once: do not wait for it to close."""
        ...


def open_worker(opener: Opener[Item, Result]) -> tuple[Worker[Item, Result] | None, Reply]:
    """The worker and the reply that it is open, or none and the reply that says why."""
    try:
        worker = opener()
        return worker, Reply(opened=True, begins=hasattr(worker, "begin"))
    except (UsageError, EngineError) as error:
        return None, Reply(fatal=error)
    except Exception as error:
        logger.debug("a worker could not be opened", exc_info=True)
        return None, Reply(fatal=EngineError(f"a worker could not be opened: {describe(error)}"))


def try_item(worker: Worker[Item, Result], item: Item, then: Item | None = None) -> Reply:
    """One try of one item. then: what the worker may begin with meanwhile."""
    try:
        if then is not None:
            for known in (item, then):
                worker.begin(known)  # type: ignore[attr-defined]
        return Reply(result=worker(item))
    except (UsageError, EngineError) as error:
        return Reply(fatal=error)
    except WorkerBroken as error:
        return Reply(error=str(error), lost=True)
    except Exception as error:
        logger.debug("a try failed", exc_info=True)
        return Reply(error=describe(error))


def close_worker(worker: object) -> None:
    """Let a worker free what it holds, if it has a `close`. What goes wrong there undoes nothing: it is told."""
    try:
        close = getattr(worker, "close", None)
        if callable(close):
            close()
    except Exception as error:
        logger.warning("a worker could not be closed: %s", describe(error))


def describe(error: BaseException) -> str:
    """One line: the message of an error of ours; kind, message and place of any other."""
    text = " ".join(str(error).split())
    if isinstance(error, TarloomError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"


def openings_lost(reason: str | None) -> EngineError:
    """To raise when so many in a row were."""
    return EngineError(
        f"{LOST_OPENINGS} workers in a row died while they opened ({reason}); "
        "if they ran out of memory, use fewer workers or a smaller model"
    )


@dataclass
class Task(Generic[Item]):
    """An item, and how many tries of it have failed."""

    item: Item
    failures: int = 0
    alone: bool = False
    """It, or what was begun beside it, ended its worker: the next try has a worker to itself."""


class Backlog(Generic[Item]):
    """Items that are still to be done: those that failed a try first, then new ones, taken lazily.

    ahead: how many are held at most; None for all that there are.
    """

    def __init__(self, items: Iterable[Item | NotYet], *, retries: int, ahead: int | None) -> None:
        self._new = iter(items)
        self._waiting: deque[Task[Item]] = deque()
        self._retries = retries
        self._ahead = ahead
        self.not_yet = False
        """The source had none when it was last asked, but there may be more."""

    def look_ahead(self) -> int:
        """How many items can be handed out now; new ones are taken up to as many as an engine has seats."""
        while self._ahead is None or len(self._waiting) < self._ahead:
            item = next(self._new, None)
            self.not_yet = isinstance(item, NotYet)
            if item is None or isinstance(item, NotYet):
                break
            self._waiting.append(Task(item))
        return len(self._waiting)

    def take(self) -> Task[Item] | None:
        return self._waiting.popleft() if self.look_ahead() else None

    def take_beside(self, task: Task[Item], *, least: int) -> Task[Item] | None:
        """An item to be begun while this one ends, where so many are waiting that no other worker goes short."""
        if task.alone or self.look_ahead() < max(1, least) or self._waiting[0].alone:
            return None
        return self.take()

    def put_back(self, task: Task[Item]) -> None:
        """It was begun beside another, whose worker is lost."""
        task.alone = True
        self._waiting.appendleft(task)

    def wait(self) -> Task[Item] | None:
        """The next item, None when there will be no more."""
        while (task := self.take()) is None and self.not_yet:
            time.sleep(MOMENT)
        return task

    def failed(self, task: Task[Item], error: str) -> Outcome[Item, Any] | None:
        """The item's end, or None when it will be tried again."""
        task.failures, task.alone = task.failures + 1, True
        if task.failures > self._retries:
            return Outcome(item=task.item, error=error)
        self._waiting.appendleft(task)
        return None


Wait = Callable[[Sequence[Any], float | None], Sequence[Any]]
"""Those of the given seats that have a reply: at least one, unless there is a limit to the seconds and none has."""


class Crew(Generic[Item]):
    """The loop over seats. `hire` makes a new seat, `wait` returns those of the given that have a reply."""

    def __init__(self, *, hire: Callable[[], Any], wait: Wait, size: int) -> None:
        self._hire = hire
        self._wait = wait
        self._size = size
        self._opening: dict[Seat, int] = {}
        """Seats that are not open yet, and how many openings had been lost when they were hired."""
        self._idle: list[Seat] = []
        self._busy: dict[Seat, Task[Item]] = {}
        self._beginning: dict[Seat, Task[Item]] = {}
        """What seats have been told that they will be given next."""
        self._begins: set[Seat] = set()
        self._lost_openings = 0

    def run(self, items: Iterable[Item | NotYet], *, retries: int) -> Iterator[Outcome[Item, Any]]:
        """Outcomes as they come. However this ends, no seat is left behind."""
        backlog = Backlog(items, retries=retries, ahead=self._size)
        finished = False
        try:
            while backlog.look_ahead() or self._busy or self._beginning or backlog.not_yet:
                self._staff(backlog)
                for seat in self._replied(MOMENT if backlog.not_yet else None):
                    outcome = self._handle(seat, seat.receive(), backlog)
                    if outcome is not None:
                        yield outcome
            finished = True
        finally:
            for seat in (*self._opening, *self._idle, *self._busy):
                seat.dismiss(at_once=not finished or seat in self._opening)

    def _replied(self, seconds: float | None) -> Sequence[Seat]:
        """Seats that have a reply; none where nobody owes one yet, or none came in so many seconds."""
        if owing := [*self._opening, *self._busy]:
            return self._wait(owing, seconds)
        time.sleep(seconds or 0)
        return ()

    def _staff(self, backlog: Backlog[Item]) -> None:
        """Give every idle seat an item, and hire for the rest."""
        for seat in list(self._idle):
            task = self._beginning.pop(seat, None) or backlog.take()
            if task is not None:
                self._idle.remove(seat)
                self._submit(seat, task, backlog)
        while len(self._opening) + len(self._busy) < self._size and len(self._opening) < backlog.look_ahead():
            self._opening[self._hire()] = self._lost_openings

    def _submit(self, seat: Seat, task: Task[Item], backlog: Backlog[Item]) -> None:
        self._busy[seat] = task
        then = backlog.take_beside(task, least=self._size) if seat in self._begins else None
        if then is not None:
            self._beginning[seat] = then
        seat.submit(task.item, None if then is None else then.item)

    def _handle(self, seat: Seat, reply: Reply, backlog: Backlog[Item]) -> Outcome[Item, Any] | None:
        if reply.fatal is not None:
            raise reply.fatal
        if seat in self._opening:
            self._opened(seat, reply)
            return None
        task = self._busy.pop(seat)
        if reply.lost:
            if seat in self._beginning:
                backlog.put_back(self._beginning.pop(seat))
            seat.dismiss(at_once=True)
        else:
            self._idle.append(seat)
        if reply.error is not None:
            return backlog.failed(task, reply.error)
        return Outcome(item=task.item, result=reply.result)

    def _opened(self, seat: Seat, reply: Reply) -> None:
        lost_before = self._opening.pop(seat)
        if not reply.lost:
            self._lost_openings = 0
            self._idle.append(seat)
            if reply.begins:
                self._begins.add(seat)
            return
        seat.dismiss(at_once=True)
        if lost_before >= self._lost_openings:
            self._lost_openings += 1
        if self._lost_openings >= LOST_OPENINGS:
            raise openings_lost(reply.error)
