"""Storage whose files are kept on this machine keeps the storages' promises and its limit, and fetches parts once."""

import errno
import logging
import multiprocessing
import os
import resource
import shutil
import uuid
from pathlib import Path

import numpy as np
import obstore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import from_url

from tarloom.errors import StorageError, UsageError
from tarloom.format.storage import LocalStorage, Storage, open_storage
from tarloom.format.storage import cached as module
from tarloom.format.storage.cached import cached
from tarloom.format.storage.ranges import Ranges
from tests.format.storage.storage_contract import INHERITED, StorageContract

PART = 1000
LIMIT = 10 * PART
BODY = np.random.default_rng(0).bytes(25 * PART + 1)
PROCESSES = 3


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(module, "PART_BYTES", PART)
    monkeypatch.setattr(module, "LEAST_BYTES", PART)


@pytest.fixture
def store() -> Storage:
    return open_storage(f"memory:///{uuid.uuid4().hex}")


@pytest.fixture
def storage(store, tmp_path) -> Storage:
    return cached(store, tmp_path / "cache", LIMIT)


class TestCachedStorage(StorageContract):
    @pytest.fixture
    def store(self, s3_folder):
        return open_storage(s3_folder)

    @pytest.fixture
    def put_raw(self, s3_folder):
        return lambda name, data: obstore.put(from_url(s3_folder), name, data)


def read(storage: Storage, entry, offset: int, size: int) -> bytes:
    return bytes(storage.ranges_of(entry).read_ranges(entry.name, [offset], [size])[0])


def written(storage: Storage, name: str, body: bytes):
    storage.write(name, body)
    return storage.head(name)


def kept_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "parts").rglob("*-*"))


@settings(max_examples=60, deadline=None, suppress_health_check=INHERITED)
@given(
    groups=st.lists(st.lists(st.tuples(st.integers(0, 20 * PART), st.integers(0, 5 * PART)), max_size=4), max_size=3)
)
def test_ranges_of_any_kind_are_those_of_the_file_and_the_limit_is_kept(storage, groups):
    entry = storage.head("tar") or written(storage, "tar", BODY)
    columns = [np.array(group, np.int64).reshape(-1, 2).T for group in groups]
    packed = storage.ranges_of(entry).read_packed("tar", [Ranges(offsets=o, sizes=s) for o, s in columns])
    expected = [b"".join(BODY[offset : offset + size] for offset, size in group) for group in groups]
    assert [buffer.to_pybytes() for buffer in packed] == expected
    assert kept_bytes(Path(storage.folder)) <= LIMIT


def test_a_range_past_the_end_is_refused(storage):
    entry = written(storage, "tar", BODY)
    with pytest.raises(StorageError, match=f"{storage.url}/tar: ends before"):
        read(storage, entry, len(BODY) - 1, 2)


def test_what_is_kept_is_not_fetched_again(storage):
    entry = written(storage, "tar", BODY)
    assert read(storage, entry, 500, 3 * PART) == BODY[500 : 500 + 3 * PART]
    storage.delete("tar")
    assert read(storage, entry, 0, 4 * PART) == BODY[: 4 * PART]
    with pytest.raises(StorageError, match=f"{storage.url}/tar: no such object"):
        read(storage, entry, 4 * PART, 1)


def test_another_version_is_another_file(storage):
    old = written(storage, "tar", BODY)
    assert read(storage, old, 0, 10) == BODY[:10]
    new = written(storage, "tar", BODY[::-1])
    assert read(storage, new, 0, 10) == BODY[::-1][:10]
    assert read(storage, old, 0, 10) == BODY[:10]
    with pytest.raises(StorageError, match=f"{storage.url}/tar: is another file now than when it was listed"):
        read(storage, old, PART, 10)


def test_another_version_is_refused_by_a_real_store(s3, s3_folder, tmp_path):
    storage = cached(open_storage(s3_folder), tmp_path, LIMIT)
    old = written(storage, "tar", BODY)
    assert read(storage, old, 0, 10) == BODY[:10]
    written(storage, "tar", BODY[::-1])
    with pytest.raises(StorageError, match=f"{s3_folder}/tar: is another file now than when it was listed"):
        read(storage, old, PART, 10)


def test_a_part_that_was_cut_is_fetched_anew(storage):
    entry = written(storage, "tar", BODY)
    read(storage, entry, 0, PART)
    (part,) = (Path(storage.folder) / "parts").rglob("*-*")
    part.write_bytes(b"half")
    assert read(storage, entry, 0, PART) == BODY[:PART]
    assert part.stat().st_size == PART


def test_what_was_not_used_for_the_longest_time_makes_room(storage):
    entry = written(storage, "tar", BODY)
    for number in range(10):
        read(storage, entry, number * PART, 1)
    for path in (Path(storage.folder) / "parts").rglob("*-*"):
        number = int(path.name.rpartition("-")[2])
        os.utime(path, (number, number))
    for number in (0, 10):  # the first one is used again, and then there is no room any more
        read(storage, entry, number * PART, 1)
    storage.delete("tar")
    for number in (0, *range(3, 11)):
        assert read(storage, entry, number * PART, 1) == BODY[number * PART :][:1]
    for number in (1, 2):
        with pytest.raises(StorageError, match="no such object"):
            read(storage, entry, number * PART, 1)


@pytest.mark.parametrize("room", [0, PART // 2])
def test_a_disk_without_room_is_said_once_and_does_not_end_the_reading(storage, caplog, room):
    entry = written(storage, "tar", BODY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with caplog.at_level(logging.WARNING):
            assert read(storage, entry, 0, 2 * PART) == BODY[: 2 * PART]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (said,) = caplog.messages
    assert "File too large; check the " in said
    assert said.endswith("; what was read is not kept")
    assert kept_bytes(Path(storage.folder)) == 0
    assert read(storage, entry, 0, 2 * PART) == BODY[: 2 * PART]
    assert kept_bytes(Path(storage.folder)) == 2 * PART


def test_a_cache_that_can_no_longer_be_written_is_said_and_what_it_has_is_read(storage, caplog, monkeypatch):
    entry = written(storage, "tar", BODY)
    read(storage, entry, 0, PART)
    shutil.rmtree(Path(storage.folder) / "locks")
    (Path(storage.folder) / "locks").write_bytes(b"in the way")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "utime", refuse)
    assert read(storage, entry, 500, 2 * PART) == BODY[500 : 500 + 2 * PART]
    assert kept_bytes(Path(storage.folder)) == PART
    assert [message.partition("; ")[2] for message in caplog.messages] == [
        "check the disk, or give the cache another folder; what other processes fetch, too, is fetched again",
        "check the disk, or give the cache another folder; what was read is not kept",
    ]
    storage.delete("tar")
    assert read(storage, entry, 0, PART) == BODY[:PART]
    with pytest.raises(StorageError, match=f"{storage.url}/tar: no such object"):
        read(storage, entry, PART, 1)


def test_a_part_that_cannot_be_read_is_said_and_fetched_anew(storage, caplog):
    entry = written(storage, "tar", BODY)
    read(storage, entry, 0, PART)
    (part,) = (Path(storage.folder) / "parts").rglob("*-*")
    part.unlink()
    part.mkdir()
    assert read(storage, entry, 0, PART) == BODY[:PART]
    assert f"{part}: Is a directory; check the disk" in caplog.messages[0]
    assert caplog.messages[0].endswith("; what cannot be read of the cache is fetched anew")


def read_all(url: str, folder: str, results) -> None:
    module.PART_BYTES = module.LEAST_BYTES = PART
    storage = cached(open_storage(url), folder, 100 * PART)
    entry = storage.head("tar")
    results.put(all(read(storage, entry, offset, 1500) == BODY[offset:][:1500] for offset in range(0, 24 * PART, 500)))


def test_processes_that_want_the_same_at_once_fetch_it_once(s3, s3_folder, tmp_path):
    obstore.put(from_url(s3_folder), "tar", BODY)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=read_all, args=(s3_folder, str(tmp_path), results)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    assert [results.get(timeout=240) for _ in processes] == [True] * PROCESSES
    for process in processes:
        process.join(120)
    assert (
        int((tmp_path / "used").read_bytes()) == kept_bytes(tmp_path) == 25 * PART
    )  # what was fetched twice, counts twice


def test_a_cache_may_be_deleted_while_it_is_used(storage):
    entry = written(storage, "tar", BODY)
    assert read(storage, entry, 0, PART) == BODY[:PART]
    shutil.rmtree(storage.folder)
    assert read(storage, entry, 0, PART) == BODY[:PART]
    assert kept_bytes(Path(storage.folder)) == PART


def test_a_folder_that_cannot_be_written_is_named_at_once(store, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"file/cache/locks/00: Not a directory; check the disk, or give the cache"):
        cached(store, tmp_path / "file" / "cache", LIMIT)


def test_local_files_are_read_where_they_are(tmp_path):
    storage = LocalStorage(str(tmp_path))
    assert cached(storage, tmp_path / "cache", LIMIT) is storage


def test_a_cache_that_is_too_small_is_refused(store, tmp_path):
    with pytest.raises(UsageError, match="too small"):
        cached(store, tmp_path, PART - 1)
