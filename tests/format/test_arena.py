"""Buffers of an arena share no memory while they live, and their memory is used again when all of them are gone."""

import ctypes
from threading import Thread

from hypothesis import given, settings
from hypothesis import strategies as st

from tarloom.format.arena import Arenas
from tarloom.format.memory import allocate

SIZE = 1 << 20


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, SIZE // 3), max_size=20))
def test_living_buffers_share_no_memory_and_those_without_room_come_from_elsewhere(sizes):
    buffers = []
    with Arenas(kept=1).arena(SIZE).here():
        for value, size in enumerate(sizes):
            buffers.append(allocate(size))
            ctypes.memset(buffers[-1].address, value, size)
    assert [buffer.to_pybytes() for buffer in buffers] == [bytes([v]) * size for v, size in enumerate(sizes)]


def test_memory_is_used_again_when_all_that_refers_to_it_is_gone():
    arenas = Arenas(kept=1)
    first = arenas.arena(SIZE)
    held = first.buffer(100).slice(5, 7)
    place = first.buffer(10).address
    del first
    assert arenas.arena(SIZE).buffer(10).address != place  # a view lives
    del held
    arena = arenas.arena(SIZE)
    arena.buffer(100)
    assert arena.buffer(10).address == place


def test_memory_that_was_made_for_little_is_used_again_for_as_much_as_was_ever_wanted():
    arenas = Arenas(kept=1)
    arenas.arena(SIZE)
    place = arenas.arena(10).buffer(10).address
    assert arenas.arena(SIZE).buffer(10).address == place


def test_only_the_thread_that_asked_allocates_from_it():
    arena = Arenas(kept=1).arena(SIZE)
    elsewhere = []
    with arena.here():
        thread = Thread(target=lambda: elsewhere.append(allocate(10).address))
        thread.start()
        thread.join()
        here = allocate(10).address
    first = arena.buffer(10).address
    assert first + 64 == here
    assert not first - SIZE < elsewhere[0] < first + SIZE
