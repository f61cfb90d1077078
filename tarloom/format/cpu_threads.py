"""Work that waits for nothing, done by as few threads as there are CPUs, however many threads there are that wait.

Arrow's allocator gives every thread memory of its own, in pages of 2 MiB that the system zeroes first. Where each of 16
threads that wait for an object store also read its tables, that was a third of a condition's CPU time.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tarloom.format.cpus import cpu_share

Made = TypeVar("Made")


def on_cpu_threads(make: Callable[[], Made]) -> Made:
    """What `make` makes, or raises, in one of these threads."""
    if _this_thread.is_one:  # who waited for another one of them might wait for ever
        return make()
    return _pool.threads().submit(make).result()


class _Pool:
    """Threads of this process, made when they are first wanted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    def threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(cpu_share(), "tarloom-cpu", initializer=_begin)
            return self._threads


class _Thread(threading.local):
    is_one = False


_this_thread = _Thread()


def _begin() -> None:
    _this_thread.is_one = True


def _renew() -> None:
    """A forked process has its own: its parent's are not there, and who held the lock is not, either."""
    global _pool
    _pool = _Pool()
    _this_thread.is_one = False


_pool = _Pool()
os.register_at_fork(after_in_child=_renew)
