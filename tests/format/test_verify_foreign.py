"""The check of tars that others made: no plan, perhaps no files beside them."""

import shutil
from pathlib import Path

import pytest

from tarloom.format.index_load import load_index
from tarloom.format.storage import open_storage
from tests.format import raw
from tests.format.damage import damaged_files, drop_last, edit, findings, repeat_first, with_value


@pytest.fixture
def foreign(tmp_path) -> Path:
    """As img2dataset leaves it: metadata in the order in which downloads ended."""
    folder = tmp_path / "foreign"
    samples = raw.some_samples(10)
    raw.write_tar(folder / "00000.tar", [samples[i] for i in (4, 2, 0, 1, 5, 6, 8, 9)])
    raw.write_metadata(folder, "00000", [key for key, _ in samples], (3, 7))
    raw.write_stats(folder, "00000", 10, 2, None)
    edit(folder / "00000.parquet", lambda table: table.drop_columns(["error"]))
    return folder


def test_an_unordered_folder_without_index_and_plan_is_sound(foreign):
    assert findings(foreign) == []


def test_bare_tars_at_any_depth_are_sound(tmp_path):
    raw.write_tar(tmp_path / "train" / "a.tar", raw.some_samples(3))
    raw.write_tar(tmp_path / "b.c.tar", raw.some_samples(3))
    (tmp_path / "list.parquet").write_bytes(b"not ours")
    assert findings(tmp_path) == []


@pytest.mark.parametrize(
    "change", [drop_last, repeat_first, with_value("key", 0, "other"), with_value("status", 0, "lost")]
)
def test_changed_metadata_is_found(foreign, change):
    edit(foreign / "00000.parquet", change)
    assert "00000.parquet" in damaged_files(foreign)


def test_a_json_member_that_is_not_json_is_found(foreign):
    samples = raw.some_samples(2)
    samples[1][1]["json"] = b'{"key": '
    raw.write_tar(foreign / "bare" / "a.tar", samples)
    (finding,) = findings(foreign)
    assert "000000001.json" in finding.problem


def test_a_json_member_of_another_sample_is_found(foreign):
    samples = raw.some_samples(10)
    samples[5][1]["json"] = samples[6][1]["json"]
    raw.write_tar(foreign / "00000.tar", [sample for i, sample in enumerate(samples) if i not in (3, 7)])
    (finding,) = findings(foreign)
    assert "'000000006'" in finding.problem


def test_a_tar_without_its_end_is_found(tmp_path):
    places = raw.write_tar(tmp_path / "a.tar", raw.some_samples(3))
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: places[-1][2] + 512])
    assert damaged_files(tmp_path) == {"a.tar"}


def test_a_tar_that_changed_since_its_index_was_made_is_found(foreign):
    storage = open_storage(foreign)
    load_index(storage, "00000", storage.head("00000.tar"))
    assert findings(foreign) == []
    samples = raw.some_samples(10)
    raw.write_tar(foreign / "00000.tar", [samples[i] for i in (4, 2, 0, 1, 5, 6, 8, 9)], mtime=5)
    assert damaged_files(foreign) == {"_tarloom/index/00000.parquet"}
    raw.write_tar(
        foreign / "00000.tar", [samples[i] for i in (4, 2, 0, 1, 5, 6, 8, 9)] + raw.some_samples(20, first=50)
    )
    assert not any(f.file.startswith("_tarloom") for f in findings(foreign) if f.kind == "damage")


def test_stats_without_a_tar_are_found(foreign):
    shutil.copy(foreign / "00000_stats.json", foreign / "00001_stats.json")
    assert damaged_files(foreign) == {"00001_stats.json"}


def test_a_parquet_of_another_kind_is_a_warning(tmp_path):
    raw.write_tar(tmp_path / "a.tar", raw.some_samples(3))
    raw.write_parquet(tmp_path / "a.parquet", {"uid": [1, 2, 3]})
    (finding,) = findings(tmp_path)
    assert (finding.file, finding.kind) == ("a.parquet", "warning")
