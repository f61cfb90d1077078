"""Storage in a local folder keeps the storages' promises, and some of its own."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tarloom.errors import StorageError, UnreadableFile, UsageError
from tarloom.format.storage import TEMPORARY, LocalStorage, open_storage
from tests.format.storage.storage_contract import StorageContract, assert_clear

HOLDER = """
import sys, time
from tarloom.format.storage import open_storage
with open_storage(sys.argv[1]).locked("00000"):
    print("locked", flush=True)
    time.sleep(60)
"""
WRITER = """
import sys, time
from tarloom.format.storage import open_storage
with open_storage(sys.argv[1]).create("late.tar") as file:
    file.write(b"x" * 100_000)
    file.flush()
    print("written", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("code", [errno.EIO, errno.EUCLEAN, errno.EBADMSG])
def test_a_bad_sector_is_its_files_alone_unless_the_folder_is_lost(tmp_path, monkeypatch, code):
    def fails(path: str, most: int) -> bytes:
        raise OSError(code, os.strerror(code))

    storage = LocalStorage(str(tmp_path / "pictures"))
    storage.write("a.jpg", b"x")
    monkeypatch.setattr("tarloom.format.storage.local._read_at_most", fails)
    with pytest.raises(UnreadableFile, match=r"a\.jpg: "):
        storage.read_at_most("a.jpg", 10)
    (tmp_path / "pictures" / "a.jpg").unlink()
    with pytest.raises(StorageError, match="is not there, or empty") as found:
        storage.read_at_most("a.jpg", 10)
    assert not isinstance(found.value, UnreadableFile)


class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path):
        return open_storage(tmp_path / "dataset")

    @pytest.fixture
    def put_raw(self, tmp_path):
        def put(name: str, data: bytes) -> None:
            path = tmp_path / "dataset" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

        return put


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(str(tmp_path / "dataset"))


def test_what_a_killed_writer_leaves_is_swept_and_a_living_writers_is_not(storage):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, storage.url], stdout=subprocess.PIPE, text=True)
    with writer:
        assert writer.stdout.readline() == "written\n"
        assert storage.sweep() == 0
        assert list(storage.list()) == []
        writer.send_signal(signal.SIGKILL)
    end = time.monotonic() + 10
    while (swept := storage.sweep()) == 0 and time.monotonic() < end:
        time.sleep(0.05)
    assert swept == 1
    assert not list(storage.local_path("").rglob(f"{TEMPORARY}*"))


def test_a_lock_keeps_others_out_and_leaves_nothing(storage, tmp_path):
    inside, most, entered = [], [], threading.Barrier(4)

    def enter(number: int) -> None:
        entered.wait(20)
        for _ in range(20):
            with storage.locked("deep/00000"):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.001)
                inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(enter, range(4))) == [None] * 4
    assert most == [1] * 80
    assert os.listdir(tmp_path / "dataset" / "deep") == []


def test_the_lock_of_a_killed_holder_holds_nobody_up(storage):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, storage.url], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "locked\n"
        assert storage.sweep() == 0
        holder.send_signal(signal.SIGKILL)
    with storage.locked("00000"):
        assert list(storage.list()) == []
    assert os.listdir(storage.url) == []


@pytest.mark.parametrize("there", [True, False])
def test_a_lock_that_is_a_link_leads_to_no_file_elsewhere(storage, tmp_path, there):
    elsewhere = tmp_path / "elsewhere"
    if there:
        elsewhere.write_text("mine")
    Path(storage.url).mkdir()
    Path(storage.url, f"{TEMPORARY}lock-00000").symlink_to(elsewhere)
    storage.sweep()
    with pytest.raises(StorageError, match="lock-00000"), storage.locked("00000"):
        pass
    assert elsewhere.exists() == there
    assert not there or elsewhere.read_text() == "mine"


def test_sweeping_waits_for_no_pipe(storage):
    Path(storage.url).mkdir()
    os.mkfifo(Path(storage.url, f"{TEMPORARY}pipe"))
    assert storage.sweep() == 1


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_bytes(b"in the way")
    storage = open_storage(tmp_path / "file")
    with pytest.raises(StorageError) as raised:
        storage.write("a", b"1")
    assert_clear(raised.value, storage.describe("a"))


def test_a_mapped_file_is_read_only_and_has_all_bytes(storage):
    storage.write("a", b"12345")
    view = storage.map("a")
    assert bytes(view) == b"12345"
    assert view.readonly
    storage.write("empty", b"")
    assert bytes(storage.map("empty")) == b""


def test_links_to_nothing_and_links_back_up_are_left_out_of_a_listing(storage, tmp_path):
    storage.write("deep/a.jpg", b"1")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.jpg").write_bytes(b"22")
    folder = tmp_path / "dataset"
    (folder / "broken.jpg").symlink_to("nowhere")
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "deep" / "self").symlink_to(folder / "deep")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    assert {entry.name: entry.size for entry in storage.list()} == {"deep/a.jpg": 1, "linked/b.jpg": 2}


def test_a_link_to_nothing_is_in_a_survey_of_what_is_wanted_and_of_no_size(storage, tmp_path):
    storage.write("a.tar", b"1")
    for name in ("b.tar", "c.jpg"):
        (tmp_path / "dataset" / name).symlink_to("nowhere")
    entries, names = storage.survey(lambda name: name.endswith(".tar"))
    assert sorted((entry.name, entry.size, entry.version is None) for entry in entries) == [
        ("a.tar", 1, False),
        ("b.tar", 0, True),
    ]
    assert names == set()


def test_links_round_in_circles_are_left_out_of_a_listing(storage, tmp_path):
    folder = tmp_path / "dataset"
    storage.write("a/1.jpg", b"1")
    storage.write("b/2.jpg", b"22")
    (folder / "a" / "to_b").symlink_to("../b")
    (folder / "b" / "to_a").symlink_to("../a")
    (folder / "self.jpg").symlink_to("self.jpg")
    assert {entry.name for entry in storage.list()} == {"a/1.jpg", "a/to_b/2.jpg", "b/2.jpg", "b/to_a/1.jpg"}


def test_sweeping_leaves_what_cannot_be_removed(storage, tmp_path):
    (tmp_path / "dataset" / ".tmp-folder").mkdir(parents=True)
    assert storage.sweep() == 0


def test_sweeping_passes_over_folders_that_are_deleted_meanwhile(storage, tmp_path, monkeypatch):
    storage.write("deep/a", b"1")
    (tmp_path / "dataset" / f"{TEMPORARY}left").write_bytes(b"")
    look = os.scandir

    def look_too_late(path):
        if Path(path).name == "deep":
            (Path(path) / "a").unlink()
            Path(path).rmdir()
        return look(path)

    monkeypatch.setattr(os, "scandir", look_too_late)
    assert storage.sweep() == 1


def test_a_name_that_is_too_long_is_one_clear_line(storage):
    storage.write("a", b"1")
    with pytest.raises(StorageError, match="File name too long"):
        storage.head("x" * 300)


def test_pipes_are_left_out_of_a_listing_for_to_open_one_may_take_forever(storage, tmp_path):
    storage.write("a.tar", b"1")
    os.mkfifo(tmp_path / "dataset" / "b.tar")
    assert [entry.name for entry in storage.list()] == ["a.tar"]


def test_a_folder_that_is_named_by_its_neighbour_has_its_own_address(tmp_path, monkeypatch):
    (tmp_path / "deep" / "folder").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "folder")
    monkeypatch.chdir(tmp_path / "deep" / "folder")
    assert open_storage("../set").url == open_storage(tmp_path / "link" / ".." / "set").url == f"{tmp_path}/deep/set"
    assert open_storage(tmp_path / "link").url == f"{tmp_path}/link"


def test_a_folder_behind_a_link_lies_where_the_link_leads(tmp_path):
    (tmp_path / "folder/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    folder, linked = open_storage(tmp_path / "folder"), open_storage(tmp_path / "link/deep")
    assert linked.lies_in(folder)
    assert linked.lies_in(open_storage(tmp_path / "link"))
    assert linked.place == f"{tmp_path}/folder/deep"
    assert folder.lies_in(open_storage("/"))


def test_an_empty_path_is_not_taken_for_this_folder():
    with pytest.raises(UsageError, match="the path is empty"):
        open_storage("")


@pytest.mark.parametrize("url", ["s3://", "s3:///folder", "gs:///", "az:///folder"])
def test_a_url_without_a_bucket_is_refused_as_that(url):
    with pytest.raises(UsageError, match=f"^{url}: names no bucket"):
        open_storage(url)
