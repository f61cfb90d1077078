"""Memory that processes share: sent where it lies, used again when nobody has it any more, here or there."""

import gc
import os
import pickle
import subprocess
import sys
from multiprocessing.context import set_spawning_popen
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.errors import UsageError
from tarloom.read.feed.batches.shared import Blocks, Sent, SharedRoom, blocks_for, received


def room_of(blocks: Blocks) -> SharedRoom:
    return SharedRoom(blocks, range(blocks.count), kept=2)


def send(blocks: Blocks, array: np.ndarray) -> Sent | None:
    return blocks.send(array.ctypes.data, array.nbytes)


def blocks_mapped() -> int:
    return Path("/proc/self/maps").read_text().count("tarloom-batches")


def test_what_is_sent_is_received_where_it_lies():
    blocks = Blocks.new(count=2, size=100)
    array = room_of(blocks).array((2, 3, 4))
    array[:] = np.arange(24).reshape(2, 3, 4)
    found = received(send(blocks, array))
    assert found.ctypes.data == array.ctypes.data
    assert found.tolist() == [*range(24)]


def test_a_block_is_used_again_when_its_views_are_gone_here_and_where_it_was_sent():
    blocks = Blocks.new(count=1, size=100)
    room = room_of(blocks)
    array = room.array((100,))
    place, view = array.ctypes.data, received(send(blocks, array))[5:20:3]
    del array
    gc.collect()
    assert room.array((100,)).ctypes.data != place
    del view
    gc.collect()
    assert room.array((100,)).ctypes.data == place


def test_a_block_that_was_sent_several_times_is_used_again_when_all_have_given_it_back():
    blocks = Blocks.new(count=1, size=100)
    room = room_of(blocks)
    array = room.array((100,))
    place, sent = array.ctypes.data, []
    while (one := send(blocks, array)) is not None:
        sent.append(received(one))
    assert len(sent) > 1
    del array
    while sent:
        assert room.array((100,)).ctypes.data != place
        del sent[0]
        gc.collect()
    assert room.array((100,)).ctypes.data == place


def test_what_no_block_has_room_for_is_memory_that_is_not_sent():
    blocks = Blocks.new(count=1, size=100)
    room = room_of(blocks)
    arrays = [room.array((blocks.size + 1,)), room.array((100,)), room.array((100,)), room.array((0,))]
    assert [send(blocks, array) is not None for array in arrays] == [False, True, False, False]
    assert [len(array) for array in arrays] == [blocks.size + 1, 100, 100, 0]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7000)), max_size=60))
def test_no_two_living_arrays_share_memory_whoever_has_them(steps):
    blocks, living = Blocks.new(count=3, size=5000), []
    room = room_of(blocks)
    for number, (what, size) in enumerate(steps):
        if what and living:
            value, array = living.pop(size % len(living))
            sent = send(blocks, array) if what == 2 else None
            del array
            if sent is not None:
                living.append((value, received(sent)))
            continue
        array = room.array((size,))
        array[:] = number
        living.append((number, array))
        assert all((array == value).all() for value, array in living)


def test_workers_that_share_blocks_fill_their_own_ones():
    blocks = Blocks.new(count=4, size=10)
    rooms = [SharedRoom(blocks, range(first, first + 2), kept=0) for first in (0, 2)]
    arrays = [room.array((10,)) for room in rooms for _ in range(3)]
    sent = [send(blocks, array) for array in arrays]
    assert [one is not None for one in sent] == [True, True, False] * 2
    assert len({one.first for one in sent if one is not None}) == 4


class Spawning:
    """What a process that is being spawned is to multiprocessing."""

    def duplicate_for_child(self, file: int) -> int:
        return os.dup(file)

    def DupFd(self, file: int) -> "Handle":  # multiprocessing calls it so
        return Handle(file)


class Handle:
    def __init__(self, file: int) -> None:
        self.file = file

    def detach(self) -> int:
        return self.file


def test_another_mapping_of_the_blocks_has_the_same_memory_and_hears_what_came_back():
    blocks = Blocks.new(count=1, size=10)
    set_spawning_popen(Spawning())
    try:
        worker = pickle.loads(pickle.dumps(blocks))
    finally:
        set_spawning_popen(None)
    room = room_of(worker)
    array = room.array((10,))
    array[:] = 7
    found = received(send(worker, array))
    del array
    assert found.tolist() == [7] * 10
    assert not worker.is_back(0)
    del found
    assert worker.is_back(0)


def test_what_is_sent_to_another_process_is_refused_there():
    blocks = Blocks.new(count=1, size=10)
    sent = send(blocks, room_of(blocks).array((10,)))
    del blocks
    gc.collect()
    with pytest.raises(UsageError, match="can be sent to its loader alone; send others a clone"):
        received(sent)


def test_the_memory_is_gone_with_the_blocks_and_what_was_received_of_them():
    before, files = blocks_mapped(), len(os.listdir("/proc/self/fd"))
    blocks = Blocks.new(count=1, size=10)
    array = room_of(blocks).array((10,))
    array[:] = 3
    found = received(send(blocks, array))
    del blocks, array
    gc.collect()
    assert found.tolist() == [3] * 10
    assert blocks_mapped() == before + 1
    del found
    gc.collect()
    assert blocks_mapped() == before
    assert len(os.listdir("/proc/self/fd")) == files


FORKS = """
import os
from tarloom.read.feed.batches.shared import Blocks, SharedRoom, received

blocks = Blocks.new(count=1, size=10)
array = SharedRoom(blocks, range(1), kept=0).array((10,))
found = received(blocks.send(array.ctypes.data, array.nbytes))
child = os.fork()
if not child:
    del found
    os._exit(0)
os.waitpid(child, 0)
print(blocks.is_back(0))
del found
print(blocks.is_back(0))
"""


def test_a_forked_process_gives_back_nothing_that_the_one_it_was_forked_from_has():
    ended = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("False\nTrue\n", "")


def test_there_are_blocks_for_what_workers_make_and_none_without_pictures_workers_or_memory(monkeypatch):
    blocks = blocks_for([100, 5000], workers=3, waiting=2)
    assert blocks is not None
    assert blocks.size >= 5000
    assert blocks.count % 6 == 0
    assert blocks_for([], workers=3, waiting=2) is None
    assert blocks_for([100], workers=0, waiting=2) is None

    def refused(name: str) -> int:
        raise OSError(f"no {name}")

    monkeypatch.setattr(os, "memfd_create", refused)
    assert blocks_for([100], workers=3, waiting=2) is None
