"""What every storage promises. Each kind inherits these tests; its fixtures write without the code under test."""

import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tarloom.errors import StorageError, UnreadableFile
from tarloom.format.storage import Storage
from tarloom.format.storage.ranges import Ranges

PutRaw = Callable[[str, bytes], None]
INHERITED = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
"""The examples of one test share its storage, and each subclass runs the test for itself: both are meant."""


def column(pairs: list[tuple[int, int]], number: int) -> np.ndarray:
    return np.array([pair[number] for pair in pairs], np.int64)


class StorageContract:
    """Subclasses give the fixtures `storage` (an empty one) and `put_raw` (writes a file into it by other means)."""

    def test_an_absent_folder_lists_as_empty(self, storage: Storage):
        assert list(storage.list()) == []
        assert list(storage.list("nowhere")) == []

    def test_a_folder_lies_in_itself_and_in_those_above_it_alone(self, storage: Storage):
        below, beside = (replace(storage, url=f"{storage.url}{end}") for end in ("/deep/er", "-too"))
        assert storage.lies_in(storage)
        assert below.lies_in(storage)
        assert not storage.lies_in(below)
        assert not beside.lies_in(storage)

    def test_files_are_listed_at_any_depth_with_their_sizes(self, storage: Storage, put_raw: PutRaw):
        files = {"00000.tar": b"12345", "_tarloom/index/00000.parquet": b"", "a b/ü#%?&+.txt": b"x"}
        for name, data in files.items():
            put_raw(name, data)
        assert {entry.name: entry.size for entry in storage.list()} == {name: len(data) for name, data in files.items()}

    def test_a_survey_gives_entries_of_what_is_wanted_and_names_of_all_else_but_private_files(
        self, storage: Storage, put_raw: PutRaw
    ):
        for name in ("a.tar", "deep/er/b.tar", "a.parquet", "deep/er/b_stats.json", "_private/c.parquet"):
            put_raw(name, b"12345")
        entries, names = storage.survey(lambda name: name.endswith(".tar"))
        assert {entry.name: entry for entry in entries} == {n: storage.head(n) for n in ("a.tar", "deep/er/b.tar")}
        assert names - {"_private/c.parquet"} == {"a.parquet", "deep/er/b_stats.json"}

    def test_a_prefix_is_a_folder_and_not_the_beginning_of_a_name(self, storage: Storage, put_raw: PutRaw):
        for name in ("train/0.tar", "train/deep/1.tar", "train2/2.tar", "train.tar"):
            put_raw(name, b"x")
        assert {entry.name for entry in storage.list("train")} == {"train/0.tar", "train/deep/1.tar"}

    def test_head_tells_what_the_listing_tells(self, storage: Storage, put_raw: PutRaw):
        put_raw("a/b.tar", b"12345")
        assert [storage.head("a/b.tar")] == list(storage.list())

    def test_head_of_an_absent_file_is_none(self, storage: Storage, put_raw: PutRaw):
        put_raw("a/b", b"x")
        assert storage.head("a/c") is None
        assert storage.head("a/b/c") is None

    @pytest.mark.parametrize("ranges", [[(0, 1)], []], ids=["ranges", "whole"])
    def test_reading_an_absent_file_is_one_clear_line(self, storage: Storage, ranges):
        with pytest.raises(StorageError) as raised:
            storage.read_ranges("a/none", *zip(*ranges, strict=True)) if ranges else storage.read("a/none")
        assert_clear(raised.value, storage.describe("a/none"))

    def test_a_written_file_is_read_back(self, storage: Storage):
        storage.write("deep/er/name.bin", b"\0\1\2")
        storage.write("empty", b"")
        assert storage.read("deep/er/name.bin") == b"\0\1\2"
        assert storage.read("empty") == b""

    def test_what_others_wrote_is_read(self, storage: Storage, put_raw: PutRaw):
        put_raw("a b/ü#%?&+.txt", b"hello")
        assert storage.read("a b/ü#%?&+.txt") == b"hello"

    @settings(max_examples=30, deadline=None, suppress_health_check=INHERITED)
    @given(data=st.data())
    def test_ranges_come_in_the_order_asked_for(self, storage: Storage, put_raw: PutRaw, data):
        body = bytes(range(256)) * 40
        if storage.head("ranges") is None:
            put_raw("ranges", body)
        offsets = data.draw(st.lists(st.integers(0, len(body)), max_size=20))
        sizes = [data.draw(st.integers(0, len(body) - offset)) for offset in offsets]
        views = storage.read_ranges("ranges", offsets, sizes)
        assert [bytes(view) for view in views] == [body[o : o + s] for o, s in zip(offsets, sizes, strict=True)]

    @pytest.mark.parametrize("size", [1, 7, 1000])
    @pytest.mark.parametrize("data", [b"", b"0123456789"])
    def test_the_end_of_a_file_comes_with_its_size(self, storage: Storage, put_raw: PutRaw, data, size):
        put_raw("folder/file", data)
        found = storage.read_end("folder/file", size)
        assert found is not None
        assert (bytes(found[0]), found[1]) == (data[-size:], len(data))
        assert storage.read_end("folder/absent", size) is None

    @settings(max_examples=30, deadline=None, suppress_health_check=INHERITED)
    @given(data=st.data(), stretch=st.sampled_from([1, 7, 400]))
    def test_ranges_are_packed_one_behind_the_other(self, storage: Storage, put_raw: PutRaw, data, stretch):
        body = bytes(range(251)) * 16_000
        if storage.head("packed") is None:
            put_raw("packed", body)
        groups = data.draw(st.lists(st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 900))), max_size=4))
        wanted = [[(offset * stretch, size * min(stretch, 50)) for offset, size in group] for group in groups]
        ranges = [Ranges(offsets=column(group, 0), sizes=column(group, 1)) for group in wanted]
        values = [[body[offset : offset + size] for offset, size in group] for group in wanted]
        packed = storage.read_packed("packed", ranges)
        assert [buffer.to_pybytes() for buffer in packed] == [b"".join(parts) for parts in values]
        mixed = storage.read_values("packed", ranges, apart={0, 2})
        in_lists = [number for number, found in enumerate(mixed) if isinstance(found, list)]
        assert in_lists in ([], [number for number in (0, 2) if number < len(values)])
        assert [mixed[number] for number in in_lists] == [values[number] for number in in_lists]
        assert [b"".join(found) if isinstance(found, list) else found.to_pybytes() for found in mixed] == [
            b"".join(parts) for parts in values
        ]

    @pytest.mark.parametrize(("offset", "size"), [(3, 3), (5, 1), (9, 1)])
    def test_a_range_past_the_end_is_refused(self, storage: Storage, put_raw: PutRaw, offset, size):
        put_raw("short", b"12345")
        with pytest.raises(StorageError, match="ends before") as raised:
            storage.read_ranges("short", [0, offset], [1, size])
        assert_clear(raised.value, storage.describe("short"))

    def test_a_file_is_read_whole_or_known_to_be_too_long(self, storage: Storage, put_raw: PutRaw):
        put_raw("folder/file", b"12345")
        put_raw("empty", b"")
        found = [storage.read_at_most("folder/file", most) for most in (0, 4, 5, 1000)]
        assert found == [None, None, b"12345", b"12345"]
        assert storage.read_at_most("empty", 0) == b""

    @pytest.mark.parametrize("name", ["absent", "folder", "folder/file/deeper"])
    def test_a_file_that_is_not_there_is_no_fault_of_the_others(self, storage: Storage, put_raw: PutRaw, name):
        put_raw("folder/file", b"12345")
        with pytest.raises(UnreadableFile) as raised:
            storage.read_at_most(name, 10)
        assert_clear(raised.value, storage.describe(name))

    def test_an_unsynced_file_is_read_back_and_replaced(self, storage: Storage):
        for data in (b"first", b"second", b""):
            storage.write_unsynced("deep/er/part", data)
            assert storage.read("deep/er/part") == data
        assert [entry.name for entry in storage.list()] == ["deep/er/part"]

    def test_a_folder_is_deleted_with_all_that_is_in_it_and_nothing_else(self, storage: Storage, put_raw: PutRaw):
        for name in ("a/b/1", "a/b/deep/2", "a/bc", "a/c/3"):
            put_raw(name, b"x")
        storage.delete_folder("a/b")
        storage.delete_folder("a/nowhere")
        assert {entry.name for entry in storage.list()} == {"a/bc", "a/c/3"}

    def test_a_file_is_invisible_until_its_block_ends(self, storage: Storage):
        with storage.create("late") as file:
            file.write(b"x" * 1000)
            file.flush()
            assert storage.head("late") is None
            assert list(storage.list()) == []
        assert storage.read("late") == b"x" * 1000

    def test_a_block_that_fails_leaves_nothing(self, storage: Storage):
        with pytest.raises(KeyboardInterrupt):
            write_half(storage, "never", KeyboardInterrupt)
        assert list(storage.list()) == []
        assert storage.sweep() == 0

    def test_a_block_that_fails_leaves_the_file_that_was_there(self, storage: Storage):
        storage.write("kept", b"old")
        with pytest.raises(ZeroDivisionError):
            write_half(storage, "kept", ZeroDivisionError)
        assert storage.read("kept") == b"old"

    def test_a_file_is_replaced_whole(self, storage: Storage):
        storage.write("twice", b"a longer first body")
        with storage.create("twice") as file:
            file.write(b"second")
            assert storage.read("twice") == b"a longer first body"
        assert storage.read("twice") == b"second"

    def test_a_new_file_is_written_by_the_first_who_asks(self, storage: Storage):
        assert storage.write_new("deep/plan", b"first")
        assert not storage.write_new("deep/plan", b"second")
        assert storage.read("deep/plan") == b"first"
        assert [entry.name for entry in storage.list()] == ["deep/plan"]

    def test_a_folder_is_no_file(self, storage: Storage):
        storage.write("a/b", b"1")
        assert storage.head("a") is None

    def test_a_writer_may_look_back_at_what_it_wrote(self, storage: Storage):
        with storage.create("a") as file:
            file.write(b"123")
            assert file.tell() == 3
        assert storage.read("a") == b"123"

    def test_deleting_takes_one_file_and_absence_is_no_error(self, storage: Storage):
        storage.write("a/one", b"1")
        storage.write("a/two", b"2")
        storage.delete("a/one")
        storage.delete("a/one")
        assert [entry.name for entry in storage.list()] == ["a/two"]

    def test_it_travels_to_other_processes(self, storage: Storage):
        storage.write("a", b"1")
        assert pickle.loads(pickle.dumps(storage)).read("a") == b"1"


def write_half(storage: Storage, name: str, error: type[BaseException]) -> None:
    with storage.create(name) as file:
        file.write(b"new and longer")
        raise error


def assert_clear(error: StorageError, where: str) -> None:
    """The message is one line that begins with the place and holds no XML or debugging output."""
    message = str(error)
    assert message.startswith(where)
    assert ": " in message
    assert "\n" not in message
    assert "<" not in message
    assert len(message) < 300
