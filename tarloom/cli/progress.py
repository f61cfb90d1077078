"""Progress of things that are done side by side: a bar for each on a terminal, else a line for all now and then."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from tarloom.cli.console import PLAIN_SECONDS

Advance = Callable[..., None]
"""Call it with what has advanced, by how many rows, and more=, how many more rows it is known now that there will be.
From any thread."""


@dataclass
class _Count:
    rows: int = 0
    total: int = 0
    started: float = field(default_factory=time.monotonic)

    def rate(self) -> str:
        return f"{self.rows / max(time.monotonic() - self.started, 1e-9):,.0f}/s"


@contextmanager
def watching(*titles: str) -> Iterator[Advance]:
    """Show how far each of these is, for as long as the block lasts."""
    with _bars(titles) if sys.stderr.isatty() else _lines(titles) as (counts, show):
        lock = Lock()

        def advance(title: str, rows: int = 0, *, more: int = 0) -> None:
            with lock:
                count = counts[title]
                if not count.rows:
                    count.started = time.monotonic()  # a rate leaves out what came before the first
                count.rows += rows
                count.total += more
                show(title)

        yield advance


@contextmanager
def _bars(titles: tuple[str, ...]) -> Iterator[tuple[Mapping[str, _Count], Callable[[str], None]]]:
    from rich.console import Console  # only where there is a terminal to draw on
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks = {title: progress.add_task(title, total=None, rate="") for title in titles}
        counts = {title: _Count() for title in titles}

        def show(title: str) -> None:
            count = counts[title]
            progress.update(tasks[title], completed=count.rows, total=count.total or None, rate=count.rate())

        yield counts, show


@contextmanager
def _lines(titles: tuple[str, ...]) -> Iterator[tuple[Mapping[str, _Count], Callable[[str], None]]]:
    counts = {title: _Count() for title in titles}
    said = [time.monotonic()]

    def show(title: str) -> None:
        if time.monotonic() - said[0] > PLAIN_SECONDS:
            said[0] = time.monotonic()
            sys.stderr.write("; ".join(_told(title, count) for title, count in counts.items()) + "\n")

    yield counts, show


def _told(title: str, count: _Count) -> str:
    of = f" of {count.total:,}" if count.total else ""
    return f"{title}: {count.rows:,}{of} rows, {count.rate()}"
