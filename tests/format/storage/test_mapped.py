"""What is taken of a mapped file is what lies there, wherever that is; what is not there is an error."""

import os
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarloom.errors import StorageError
from tarloom.format.storage import mapped, open_storage
from tarloom.format.storage.mapped import MappedFile
from tarloom.format.storage.ranges import Ranges
from tarloom.format.storage.scatter import announced as announced_by_scatter

SIZE = 5000
BYTES = random.Random(0).randbytes(SIZE)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mapped")
    (folder / "file").write_bytes(BYTES)
    return MappedFile(open_storage(folder), "file")


def ranges(*found):
    offsets, sizes = zip(*found, strict=True) if found else ((), ())
    return Ranges(offsets=np.array(offsets, np.int64), sizes=np.array(sizes, np.int64))


places = st.tuples(st.integers(0, SIZE), st.integers(0, 20) | st.integers(0, SIZE)).map(
    lambda found: (found[0], min(found[1], SIZE - found[0]))
)


@settings(deadline=None)
@given(found=st.lists(places | st.just((0, -1)), max_size=20), window=st.integers(SIZE // 4, SIZE))
def test_views_are_the_bytes_of_their_ranges_in_any_order_and_any_window(file, found, window):
    found = [(offset, min(size, window - 1)) for offset, size in found]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped, "WINDOW_BYTES", window)
        array = file.views(ranges(*found))
    array.validate(full=True)
    assert array.to_pylist() == [None if size < 0 else BYTES[offset : offset + size] for offset, size in found]


@given(found=st.lists(places, max_size=20))
def test_parts_are_the_bytes_of_their_ranges(file, found):
    assert [bytes(part) for part in file.parts(ranges(*found))] == [BYTES[offset:][:size] for offset, size in found]


def test_blocks_are_copied_one_behind_the_other(file):
    assert file.blocks(np.array([4000, 7]), 512).to_pybytes() == BYTES[4000:4512] + BYTES[7:519]


def test_views_hold_no_more_of_the_file_than_lies_between_the_first_and_the_last(file):
    *_, buffer = file.views(ranges((3000, 20), (1000, 30), (2000, 40))).buffers()
    assert buffer.to_pybytes() == BYTES[1000:3020]


@pytest.mark.parametrize(
    ("wanted", "announced"),
    [
        ([(900_000, 3000), (100_000, 2000), (102_500, 100)], [(100_000, 102_600), (900_000, 903_000)]),
        ([(100_000, 500_000), (600_000, 300_000)], []),
        ([], []),
    ],
)
def test_the_system_is_told_of_ranges_that_lie_apart_and_reads_by_itself_what_lies_close(
    tmp_path, monkeypatch, wanted, announced
):
    (tmp_path / "file").write_bytes(bytes(1_000_000))
    told = []
    monkeypatch.setattr(mapped, "announced", lambda requests: told.extend(announced_by_scatter(requests)) or told)
    MappedFile(open_storage(tmp_path), "file").prepare(ranges(*wanted))
    assert told == announced


def test_views_live_on_when_the_file_is_replaced(tmp_path):
    (tmp_path / "file").write_bytes(BYTES)
    array = MappedFile(open_storage(tmp_path), "file").views(ranges((0, SIZE)))
    (tmp_path / "other").write_bytes(b"short")
    os.replace(tmp_path / "other", tmp_path / "file")
    assert array.to_pylist() == [BYTES]


@pytest.mark.parametrize("found", [(SIZE - 10, 11), (-1, 5), (SIZE + 1, 0)])
def test_ranges_that_the_file_does_not_have_are_refused(file, found):
    for take in (file.parts, file.views, file.prepare):
        with pytest.raises(StorageError, match="file: ends before a range that was asked for"):
            take(ranges(found))
    with pytest.raises(StorageError, match="file: ends before"):
        file.blocks(np.array([SIZE - 511]), 512)


def test_an_empty_file_has_no_ranges_and_is_no_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    file = MappedFile(open_storage(tmp_path), "file")
    assert file.views(ranges((0, -1), (0, 0))).to_pylist() == [None, b""]
