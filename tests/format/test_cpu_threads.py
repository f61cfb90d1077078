"""What waits for nothing is done by as few threads as there are CPUs."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tarloom.format import cpu_threads
from tarloom.format.cpu_threads import on_cpu_threads

WAIT = 20


@pytest.fixture(autouse=True)
def two_cpus(monkeypatch):
    monkeypatch.setattr(cpu_threads, "cpu_share", lambda: 2)
    monkeypatch.setattr(cpu_threads, "_pool", cpu_threads._Pool())


def test_threads_that_wait_get_what_they_ask_for_made_by_no_more_threads_than_there_are_cpus():
    both, made_by = threading.Barrier(2, timeout=WAIT), set()

    def make(number):
        both.wait()
        made_by.add(threading.current_thread())
        return number

    with ThreadPoolExecutor(8) as waiting:
        numbers = range(20)
        assert list(waiting.map(lambda number: on_cpu_threads(partial(make, number)), numbers)) == list(numbers)
    assert len(made_by) == 2


def test_an_error_is_raised_where_the_work_was_asked_for():
    with pytest.raises(OSError, match="the disk is gone"):
        on_cpu_threads(lambda: _raise(OSError("the disk is gone")))


def test_work_that_asks_for_work_does_not_wait_for_its_own_thread():
    with ThreadPoolExecutor(4) as waiting:
        asked = [waiting.submit(on_cpu_threads, lambda: on_cpu_threads(lambda: 7)) for _ in range(8)]
        assert [found.result(WAIT) for found in asked] == [7] * 8


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    assert on_cpu_threads(lambda: 1) == 1
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_seven).get(WAIT) == 7


def _seven() -> int:
    return on_cpu_threads(lambda: 7)


def _raise(error: Exception) -> None:
    raise error
