"""What is read ahead comes in order, is bounded, and ends where nobody takes it any more."""

import itertools
import threading
import time
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.format.ahead import LOCAL_THREADS, ahead, ahead_where_it_waits, first_part
from tarloom.format.storage import open_storage

WAIT = 20


class Made:
    """Something of which it can be seen whether it is still there."""


@given(lengths=st.lists(st.integers(0, 4), max_size=8), threads=st.integers(1, 4))
def test_all_parts_of_all_things_come_in_order(lengths, threads):
    parts = [[(thing, part) for part in range(length)] for thing, length in enumerate(lengths)]
    assert [list(taken) for taken in ahead(first_part(iter), parts, threads=threads)] == parts


def test_while_a_thing_is_taken_the_first_part_of_the_next_one_is_read():
    came = {part: threading.Event() for part in itertools.product("ab", range(2))}

    def parts(thing: str):
        for part in range(2):
            came[thing, part].set()
            yield part

    things = ahead(first_part(parts), "ab", threads=2)
    assert next(next(things)) == 0
    assert came["b", 0].wait(WAIT)
    assert not came["b", 1].is_set()
    things.close()


def test_an_error_is_raised_in_its_turn():
    def parts(thing: int):
        yield thing
        if thing:
            raise OSError("the disk is gone")
        yield thing

    things = ahead(first_part(parts), range(3), threads=3)
    assert list(next(things)) == [0, 0]
    second = next(things)
    assert next(second) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(second)


def test_who_stops_taking_stops_the_making():
    made = []
    things = ahead(made.append, range(100), threads=2)
    next(things)
    things.close()
    assert len(made) <= 3


def test_things_are_asked_for_no_sooner_than_needed():
    numbers = iter(range(100))
    things = ahead(lambda thing: [thing], numbers, threads=3)
    assert list(next(things)) == [0]
    assert next(numbers) == 3
    things.close()


@pytest.fixture
def local(tmp_path):
    return open_storage(tmp_path)


@pytest.fixture
def nothing_waits(monkeypatch):
    """A machine that does nothing else: on a busy one, a thread waits for its turn, which is time that it did not
    work."""
    monkeypatch.setattr("tarloom.format.ahead.perf_counter", lambda: 0.0)


@pytest.mark.usefixtures("nothing_waits")
def test_what_does_not_wait_is_made_in_turn_where_it_is_taken(local):
    threads = ahead_where_it_waits(lambda _: threading.get_ident(), range(9), local)
    assert set(threads) == {threading.get_ident()}


def test_from_the_first_thing_that_waits_the_others_are_made_side_by_side(local):
    together = threading.Barrier(LOCAL_THREADS)

    def make(thing: int) -> int:
        if thing == 2:
            time.sleep(0.1)
        if thing > 2:
            together.wait(WAIT)
        return thing

    things = range(3 + 2 * LOCAL_THREADS)
    assert list(ahead_where_it_waits(make, things, local)) == list(things)


@pytest.mark.usefixtures("nothing_waits")
def test_what_is_made_in_turn_is_gone_before_the_next_is_made(local):
    living = weakref.WeakSet()

    def make(_: int) -> Made:
        assert not living
        living.add(made := Made())
        return made

    assert list(map(type, ahead_where_it_waits(make, range(3), local))) == [Made] * 3


def test_an_error_of_what_is_made_in_turn_is_raised_there(local):
    things = ahead_where_it_waits(lambda thing: 1 // thing, [1, 0, 1], local)
    assert next(things) == 1
    with pytest.raises(ZeroDivisionError):
        next(things)
