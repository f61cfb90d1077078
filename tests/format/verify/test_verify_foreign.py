"""The check of tars that others made: no plan, perhaps no files beside them."""

import gzip
import io
import shutil
import tarfile
from pathlib import Path

import pytest

from tarloom.errors import UsageError
from tarloom.format.index_load import load_index
from tarloom.format.storage import open_storage
from tests.format import raw
from tests.format.verify.damage import damaged_files, drop_last, edit, findings, repeat_first, with_value


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


def packed(folder: Path, *names: str, file: str = "a.tar") -> bytes:
    """A tar of such files, whatever their names; "b.jpg>a.jpg" is a hard link."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / file, "w") as tar:
        for name in names:
            info = tarfile.TarInfo(name.partition(">")[0])
            info.type, info.linkname = (tarfile.LNKTYPE if ">" in name else tarfile.REGTYPE), name.partition(">")[2]
            info.size = 0 if ">" in name else 3
            tar.addfile(info, io.BytesIO(b"abc"))
    return (folder / file).read_bytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a.jpg", "b.jpg", "a.txt"], ["1 samples go on behind other samples (first: 'a' at byte 2560); make a copy"]),
        (["a.jpg", "a.JPG", "b.txt", "b.txt"], ["2 members come a second time in their sample (first: 'a.JPG'"]),
        (["a.jpg", "b.jpg>a.jpg", "c.jpg>a.jpg"], ["2 members are links, which readers leave out (first: 'b.jpg' to"]),
        (
            ["a.jpg", "b.jpg", "a.jpg", "a.jpg", "c.txt>a.jpg"],
            ["1 samples go on", "1 members come a second time", "1 members are links"],
        ),
    ],
)
def test_what_readers_refuse_or_leave_out_is_found_by_name(tmp_path, names, told, suffix):
    data = packed(tmp_path / "plain", *names)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / f"a.tar{suffix}").write_bytes(gzip.compress(data) if suffix else data)
    found = findings(tmp_path / "data")
    assert [finding.problem[: len(text)] for finding, text in zip(found, told, strict=True)] == told
    assert all("tarloom repair" in finding.problem for finding in found)
    assert {(finding.file, finding.kind) for finding in found} == {(f"a.tar{suffix}", "damage")}


def test_files_of_no_sample_are_a_warning(tmp_path):
    packed(tmp_path, "a.jpg", "__MACOSX/._a.jpg", "README")
    (finding,) = findings(tmp_path)
    assert finding.kind == "warning"
    assert "2 files belong to no sample, and readers leave them out (first: '__MACOSX/._a.jpg')" in finding.problem


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_concatenated_archives_are_found_by_name(tmp_path, suffix):
    first, second = packed(tmp_path / "x", "a.jpg"), packed(tmp_path / "x", "b.jpg")
    (tmp_path / "data").mkdir()
    whole = first + second
    (tmp_path / "data" / f"a.tar{suffix}").write_bytes(gzip.compress(whole) if suffix else whole)
    (finding,) = findings(tmp_path / "data")
    assert f"another archive that no reader sees, at byte {len(first)}; make one of all" in finding.problem


def test_a_compressed_tar_is_read_to_its_very_end(tmp_path):
    whole = gzip.compress(packed(tmp_path / "x", "a.jpg"))
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "a.tgz"
    path.write_bytes(whole)
    assert findings(tmp_path / "data") == []
    for bad in (whole[:-1], whole[:-6] + b"\x00" + whole[-5:], whole + b"junk"):
        path.write_bytes(bad)
        assert damaged_files(tmp_path / "data") == {"a.tgz"}


def test_a_shard_that_is_there_twice_is_refused_by_both_names(tmp_path):
    packed(tmp_path, "a.jpg")
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(b"x"))
    with pytest.raises(UsageError, match=r"a\.tar and a\.tar\.gz would both be shard a"):
        findings(tmp_path)


def test_a_tar_that_is_a_link_to_nothing_or_to_itself_is_damage(tmp_path):
    raw.write_tar(tmp_path / "a.tar", raw.some_samples(2))
    (tmp_path / "b.tar").symlink_to("nowhere")
    (tmp_path / "c.tar").symlink_to("c.tar")
    assert damaged_files(tmp_path) == {"b.tar", "c.tar"}
