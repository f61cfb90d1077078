"""Progress on stderr: of one thing or of several side by side. A bar for each on a terminal, else a line for all now
and then."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from threading import Lock
from typing import TypeVar

from tarloom.cli.streams import tell

Step = TypeVar("Step")
PLAIN_SECONDS = 10.0
"""Where stderr is no terminal, a line of progress at most this often."""

Advance = Callable[..., None]
"""Call it with what has advanced, by how many rows, and more=, how many more rows it is known now that there will be.
From any thread."""


def finish(
    steps: Iterable[Step], *, title: str, total: int | None, done: Callable[[Step], int] = attrgetter("rows")
) -> None:
    """Take all the steps, for what they do, showing how many rows they have done."""
    for _ in watch(steps, title=title, total=total, done=done):
        pass


def watch(
    steps: Iterable[Step], *, title: str, total: int | None, done: Callable[[Step], int] = attrgetter("rows")
) -> Iterator[Step]:
    """Pass the steps on while showing how many rows they have done."""
    with watching(title) as advance:
        advance(title, more=total or 0)
        for step in steps:
            advance(title, done(step))
            yield step


@contextmanager
def watching(*titles: str) -> Iterator[Advance]:
    """Show how far each of these is, for as long as the block lasts."""
    counts = {title: _Count() for title in titles}
    with (_bars if sys.stderr.isatty() else _lines)(counts) as show:
        lock = Lock()

        def advance(title: str, rows: int = 0, *, more: int = 0) -> None:
            with lock:
                counts[title].rows += rows
                counts[title].total += more
                show(title)

        yield advance


@dataclass
class _Count:
    """Rows that are done, and of how many; 0 where that is not known."""

    rows: int = 0
    total: int = 0
    started: float = field(default_factory=time.monotonic)

    def rate(self) -> str:
        return f"{self.rows / max(time.monotonic() - self.started, 1e-9):,.0f}/s"


@contextmanager
def _bars(counts: Mapping[str, _Count]) -> Iterator[Callable[[str], None]]:
    from rich.console import Console  # only where there is a terminal to draw on
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks = {title: progress.add_task(title, total=None, rate="") for title in counts}

        def show(title: str) -> None:
            count = counts[title]
            progress.update(tasks[title], completed=count.rows, total=count.total or None, rate=count.rate())

        yield show


@contextmanager
def _lines(counts: Mapping[str, _Count]) -> Iterator[Callable[[str], None]]:
    said = [time.monotonic()]

    def show(title: str) -> None:
        if time.monotonic() - said[0] > PLAIN_SECONDS:
            said[0] = time.monotonic()
            tell("; ".join(_told(title, count) for title, count in counts.items()))

    yield show


def _told(title: str, count: _Count) -> str:
    of = f" of {count.total:,}" if count.total else ""
    return f"{title}: {count.rows:,}{of} rows, {count.rate()}"
