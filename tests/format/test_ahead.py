"""What is read ahead comes in order, is bounded, and ends where nobody takes it any more."""

import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.format.ahead import ahead, begun

WAIT = 20


@given(lengths=st.lists(st.integers(0, 4), max_size=8), threads=st.integers(1, 4))
def test_all_parts_of_all_things_come_in_order(lengths, threads):
    parts = [[(thing, part) for part in range(length)] for thing, length in enumerate(lengths)]
    assert [list(taken) for taken in begun(iter, parts, threads=threads)] == parts


def test_while_a_thing_is_taken_the_first_part_of_the_next_one_is_read():
    came = {part: threading.Event() for part in itertools.product("ab", range(2))}

    def parts(thing: str):
        for part in range(2):
            came[thing, part].set()
            yield part

    things = begun(parts, "ab", threads=2)
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

    things = begun(parts, range(3), threads=3)
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
    things = begun(lambda thing: iter([thing]), numbers, threads=3)
    assert list(next(things)) == [0]
    assert next(numbers) == 3
    things.close()
