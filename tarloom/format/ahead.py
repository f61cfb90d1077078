"""Many small things to wait for, done side by side and handed on in order, with little of it waiting in memory."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from typing import TypeVar

from tarloom.format.storage import Storage

Thing = TypeVar("Thing")
Made = TypeVar("Made")

THREADS = 16
"""For what mostly waits for storage."""
LOCAL_THREADS = 2
"""For what is on this machine, or looks like it: a network file system. More stand in each other's way: with three, the
rows of a condition took a quarter longer."""
COPY_THREADS = 2
"""For what has many bytes: two threads copy as fast as memory gives, and two batches is what waits in it."""


def threads_for(storage: Storage) -> int:
    """How many threads may wait for it."""
    return LOCAL_THREADS if storage.is_local else THREADS


class Threads(ThreadPoolExecutor):
    """Threads of an iterator, which nobody may end before the program ends. Modules are taken apart by then, also what
    throws away the work that waits; but there is none any more."""

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, ends: Callable[[], bool] = sys.is_finalizing
    ) -> None:
        """As every executor's."""
        super().shutdown(wait, cancel_futures=cancel_futures and not ends())


def ahead(make: Callable[[Thing], Made], things: Iterable[Thing], *, threads: int, each: int = 1) -> Iterator[Made]:
    """What `make` makes of each, in their order; for every thread, `each` are made or wait to be taken. Errors are
    raised in their turn; whoever stops taking stops the making."""
    pool, coming = Threads(threads, thread_name_prefix="tarloom-ahead"), deque[Future[Made]]()
    try:
        for thing in things:
            coming.append(pool.submit(make, thing))
            if len(coming) == threads * each:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def begun(
    read: Callable[[Thing], Iterator[Made]], things: Iterable[Thing], *, threads: int
) -> Iterator[Iterator[Made]]:
    """What `read` reads of each, in their order; the first part of what comes next is read ahead."""
    return ahead(partial(_begin, read), things, threads=threads)


def _begin(read: Callable[[Thing], Iterator[Made]], thing: Thing) -> Iterator[Made]:
    reading = read(thing)
    return chain(list(islice(reading, 1)), reading)
