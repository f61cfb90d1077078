"""Where the time of a run goes: seconds spent on each kind of work, summed over threads."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

Thing = TypeVar("Thing")


class Clock:
    """Adds up seconds by name. Safe to use from several threads."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._lock = Lock()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time of the block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - started
            with self._lock:
                self.seconds[name] += took

    def next(self, name: str, things: Iterator[Thing]) -> Thing | None:
        """The next of them, None where there is none, and count the time that it took to come."""
        with self(name):
            return next(things, None)
