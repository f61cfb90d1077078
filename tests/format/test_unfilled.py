"""Bytes objects that are filled where they lie hold what was written there, each in memory of its own."""

import ctypes

from hypothesis import given
from hypothesis import strategies as st

from tarloom.format.unfilled import unfilled


@given(st.lists(st.integers(0, 70_000), max_size=20))
def test_what_is_written_to_an_address_is_in_its_object_alone(sizes):
    objects, addresses = unfilled(sizes)
    for number, (address, size) in enumerate(zip(addresses.tolist(), sizes, strict=True)):
        ctypes.memset(address, number, size)
    assert objects == [bytes([number]) * size for number, size in enumerate(sizes)]
    assert [type(found) for found in objects] == [bytes] * len(sizes)


def test_objects_that_all_share_are_never_written_to():
    objects, _ = unfilled([0, 1, 1])
    assert objects[1] is not objects[2]
    assert objects[0] == b""
