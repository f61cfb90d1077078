"""Memory of batches: used again when nobody has it any more, never before."""

import gc

from hypothesis import given
from hypothesis import strategies as st

from tarloom.read.feed.batches.room import Room


def test_memory_is_used_again_when_all_views_of_it_are_gone():
    room = Room(kept=2)
    first = room.array((4, 5))
    place, view = first.ctypes.data, first[1:, ::2]
    del first
    gc.collect()
    assert room.array((4, 5)).ctypes.data != place
    del view
    gc.collect()
    assert place in {array.ctypes.data for array in [room.array((20,)) for _ in range(3)]}


def test_arrays_are_whole_and_may_be_written_to():
    array = Room(kept=1).array((2, 3, 4))
    assert array.shape == (2, 3, 4)
    assert array.flags.c_contiguous
    array[:] = 9
    assert array.sum() == 9 * 24


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=60))
def test_no_two_living_arrays_share_memory(steps):
    room, living = Room(kept=3), []
    for number, (ends, size) in enumerate(steps):
        if ends and living:
            living.pop(number % len(living))
            continue
        array = room.array((size,))
        array[:] = number
        living.append((number, array))
        assert all((array == value).all() for value, array in living)
