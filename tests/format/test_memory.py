"""Large buffers take the memory of those that are gone, and never that of one that lives."""

import ctypes
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from tarloom.format import memory
from tarloom.format.memory import KEPT_BYTES, LARGE_BYTES, allocate

MIB = 1 << 20
SIZES = st.sampled_from([0, 10, 100_000, 4 * MIB, 5 * MIB, 20 * MIB])


def fill(buffer, value: int) -> None:
    ctypes.memset(buffer.address, value, buffer.size)


def test_the_next_buffer_has_the_memory_of_the_last():
    memory._free.clear()
    first = allocate(LARGE_BYTES + 5)
    place = first.address
    view = first.slice(7, 9)
    del first
    assert allocate(LARGE_BYTES).address != place  # a view of it lives
    del view
    assert {allocate(LARGE_BYTES + 1).address, allocate(LARGE_BYTES + 1).address} & {place}


def test_what_was_used_last_is_kept():
    memory._free.clear()
    small = [allocate(1 << 20) for _ in range(KEPT_BYTES >> 20)]
    large = allocate(KEPT_BYTES // 2)
    place = large.address
    del small, large
    assert allocate(KEPT_BYTES // 2).address == place


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from([0, 10, 100_000, 4 * MIB, 5 * MIB, 20 * MIB]), st.integers(0, 4)), max_size=25)
)
def test_living_buffers_share_no_memory_and_little_is_kept(steps):
    alive = {}
    for value, (size, dropped) in enumerate(steps):
        alive[value] = allocate(size)
        fill(alive[value], value)
        alive.pop(value - dropped - 1, None)
        assert sum(map(len, memory._free)) <= KEPT_BYTES
    assert all(buffer.to_pybytes() == bytes([value]) * buffer.size for value, buffer in alive.items())


def test_a_program_that_ends_with_buffers_in_use_ends_in_silence():
    code = "from tarloom.format.memory import allocate; kept = [allocate(9_000_000) for _ in range(3)]; kept.pop()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
