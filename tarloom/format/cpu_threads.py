"""Work that waits for nothing, done by as few threads as there are CPUs, however many threads there are that wait.

Arrow's allocator gives every thread memory of its own, in pages of 2 MiB that the system zeroes first. Where each of 16
threads that wait for an object store also read its tables, that was a third of a condition's CPU time.
"""

import functools
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
    return _threads(os.getpid()).submit(make).result()


@functools.cache  # a forked process has its own: its parent's are not there
def _threads(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cpu_share(), thread_name_prefix="tarloom-cpu", initializer=_begin)


class _Thread(threading.local):
    is_one = False


_this_thread = _Thread()


def _begin() -> None:
    _this_thread.is_one = True
