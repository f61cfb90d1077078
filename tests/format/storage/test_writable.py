"""A trial write says whether an output can be written, and leaves nothing behind."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tarloom.errors import UsageError
from tarloom.format.storage import open_storage
from tarloom.format.storage.writable import check_writable


def test_where_nothing_can_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"^output .*/out cannot be written: .*a file lies where a folder should be"):
        check_writable(open_storage(tmp_path / "file" / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_trial_leaves_a_folder_as_it_was(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    check_writable(open_storage(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_trial_never_makes_the_folder_which_another_run_may_be_about_to_fill(tmp_path):
    through, seen = threading.Event(), []

    def look() -> None:
        while not through.is_set():
            seen.extend(path for path in tmp_path.iterdir() if path.is_dir())

    with ThreadPoolExecutor(1) as another:
        looking = another.submit(look)
        for _ in range(300):
            check_writable(open_storage(str(tmp_path / "out/shards")))
        through.set()
        looking.result()
    assert seen == []
    assert list(tmp_path.iterdir()) == []
