"""What every engine offers: map a worker over items, bounded in flight, retried, in any order.

A *worker* is a callable from an item to a report, built once per process by an `opener`. Openers and items are small
and picklable and travel to where the work runs; the heavy things (a model, a connection pool) are built there. A worker
that has a method `begin` is told with it which items it will be given soon, so that one may begin as another ends.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from tarloom.engines.workers import Workers

Item = TypeVar("Item")
Result = TypeVar("Result")
Worker = Callable[[Item], Result]
Opener = Callable[[], Worker[Item, Result]]
STAGES_ALONE = "the engine ray-data runs stages over shards, and nothing else: give --engine ray"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of one shard."""

    shard: str
    rows: int = 0
    successes: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    """Failed rows by named error."""
    bytes: int = 0
    """Bytes of the members written or read."""
    seconds: float = 0.0
    skipped: bool = False
    """An earlier run had done this shard."""


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[Item, Result]):
    """The end of one item: its result, or the error that outlasted the retries."""

    item: Item
    result: Result | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Workers of one kind, and what is reserved for each of them."""

    workers: Workers
    cpus: float = 1
    gpus: float = 0


class Step(Protocol):
    """One kind of answering, with a pool of workers of its own. Small and picklable."""

    @property
    def calls(self) -> int:
        """How many portions a worker takes side by side."""
        ...

    @property
    def pool(self) -> Pool | None:
        """None for the engine's own."""
        ...

    def open(self) -> Worker[Any, Any]:
        """Build the heavy worker: from a portion to its answer, both bytes or buffers."""
        ...


class Pipeline(Protocol):
    """Work on items in portions, by workers of several kinds that may live on different machines: some read, some
    answer, some write. An opener whose work can be done so has a method `pipeline` that returns it. Small, picklable.

    Whatever fails, the item is tried again as a whole: what was written of it before need not be read again.
    """

    @property
    def steps(self) -> Sequence[Step]:
        """A portion goes through all of them, one after the other; each sees what the one before it answered."""
        ...

    def begin(self, items: Sequence[Any]) -> Sequence[Any]:
        """What travels in the items' place. All that `read` yields follows from it: what is lost on its way is read
        again, and must be the same."""
        ...

    def read(self, begun: Any) -> Iterator[Any]:
        """The item's portions, as bytes or buffers."""
        ...

    def write(self, begun: Any, answer: Any) -> Any:
        """Keep an answer; the small receipt for it."""
        ...

    def finish(self, item: Any, receipts: Sequence[Any]) -> Any:
        """Runs at the caller, when all portions are written."""
        ...


class NotYet:
    """What a source of items yields where it knows none now, but there may be more later: it is asked again soon."""


NOT_YET = NotYet()


class WorkerBroken(Exception):
    """Raised by a worker that is of no more use (its model's engine died): another one is opened for the next try."""


class Engine(Protocol):
    """Runs workers. Closing stops them; Ctrl-C in the caller stops them too."""

    def map(
        self, opener: Opener[Item, Result], items: Iterable[Item | NotYet], *, retries: int = 2
    ) -> Iterator[Outcome[Item, Result]]:
        """Outcomes as they come, in any order. `items` is consumed lazily: a few in flight per worker.

        UsageError and EngineError raised by an opener or a worker end the run: they are raised here. Any other
        exception of an item, and the death of its worker, counts as one failed try; the item is tried again up to
        `retries` times, then becomes an Outcome with an error.
        """
        ...

    def close(self) -> None:
        """Stop all workers."""
        ...
