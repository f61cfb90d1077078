"""What requests bring is put where it is wanted, whatever was asked for at once."""

import numpy as np

from tarloom.format.storage import packing
from tarloom.format.storage.ranges import Medium, Ranges

BODY = bytes(range(100))


def test_what_is_more_than_a_request_comes_in_a_buffer_though_lists_are_wanted(monkeypatch):
    monkeypatch.setattr(packing, "REMOTE", Medium(gap_bytes=2, request_bytes=10, worth=1))
    small = Ranges(offsets=np.array([40, 0, 41]), sizes=np.array([10, 0, 3]))
    large = Ranges(offsets=np.array([3, 70]), sizes=np.array([11, 30]))
    found, packed = packing.pack_values([small, large], parts_of_body, apart={0, 1})
    assert found == [BODY[40:50], b"", BODY[41:44]]
    assert bytes(packed) == BODY[3:14] + BODY[70:]


def parts_of_body(starts, ends):
    return [memoryview(BODY)[start:end] for start, end in zip(starts, ends, strict=True)]
