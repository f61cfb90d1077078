"""A copy of unsound tars: all that can be saved, in sound ones; what was done and lost is said, nothing in place."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard

import tarloom
from tarloom.errors import CorruptShard, UsageError
from tarloom.format.repair.job import RepairJob, RepairReport
from tarloom.format.storage import open_storage
from tests.format import raw
from tests.format.verify.damage import drop_last, edit, findings, flip, repeat_first

Entry = tuple[str, bytes | str]
"""A file's name and bytes; or a link's name and "hard:TARGET" or "soft:TARGET"."""


def packed(entries: list[Entry], format: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                kind, _, info.linkname = content.partition(":")
                info.type = {"hard": tarfile.LNKTYPE, "soft": tarfile.SYMTYPE}[kind]
                tar.addfile(info)
            else:
                info.size, info.mtime = len(content), 77
                tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def repaired(folder: Path, output: Path | None = None) -> list[RepairReport]:
    return list(RepairJob(str(folder), str(output or folder.parent / "copy")))


def samples_of(folder: Path) -> dict[str, dict[str, bytes]]:
    """As tarfile reads them, in order."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.rglob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, extension = raw.split_at_first_dot(member.name)
                assert extension not in found.setdefault(key, {})
                found[key][extension] = tar.extractfile(member).read()
    return found


@pytest.fixture
def source(tmp_path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def repair_one(source: Path, data: bytes, name: str = "a.tar") -> tuple[RepairReport, dict[str, dict[str, bytes]]]:
    """Repair a folder of this tar; the copy is sound, and a second repair would change nothing."""
    (source / name).write_bytes(data)
    (report,) = repaired(source)
    copy = source.parent / "copy"
    assert (source / name).read_bytes() == data
    if report.bytes:
        assert findings(copy) == []
        (again,) = repaired(copy, source.parent / "again")
        assert (again.done, again.samples) == ((), report.samples)
        assert (source.parent / "again" / "a.tar").read_bytes() == (copy / "a.tar").read_bytes()
        assert len(tarloom.open(copy)) == report.samples
    return report, samples_of(copy)


def test_members_apart_from_each_other_come_side_by_side_in_the_order_of_the_keys(source):
    names = ["b.jpg", "a.jpg", "b.txt", "c/x.y.jpg", "a.txt"]
    report, found = repair_one(source, packed([(name, name.encode()) for name in names]))
    assert found == {
        "b": {"jpg": b"b.jpg", "txt": b"b.txt"},
        "a": {"jpg": b"a.jpg", "txt": b"a.txt"},
        "c/x": {"y.jpg": b"c/x.y.jpg"},
    }
    assert report.done == ("samples whose members were apart joined: 2, first 'b'",)
    assert report.lost == ()


def test_of_members_that_come_again_the_same_are_one_and_others_left_out_with_all_of_their_sample(source):
    entries = [("a.jpg", b"1"), ("a.JPG", b"2"), ("a.txt", b"3"), ("b.jpg", b"4"), ("a.jpg", b"1"), ("b.jpg", b"other")]
    report, found = repair_one(source, packed([*entries, ("b.txt", b"of the other"), ("c.jpg", b"5")]))
    assert found == {"a": {"jpg": b"1", "txt": b"3"}, "b": {"jpg": b"4"}, "c": {"jpg": b"5"}}
    assert report.lost == ("members that come again with other bytes left out: 3, first 'a.JPG'",)
    assert "members that come again with the same bytes left out: 'a.jpg'" in report.done


def test_links_become_the_files_that_they_lead_to(source):
    entries: list[Entry] = [("./x/a.jpg", b"picture"), ("./x/b.jpg", "hard:./x/a.jpg"), ("./x/b.txt", b"b")]
    entries += [("c.jpg", "soft:x/d.jpg"), ("c.txt", b"c"), ("x/d.jpg", "soft:../e.jpg"), ("e.jpg", b"far")]
    report, found = repair_one(source, packed([*entries, ("f.jpg", "hard:none.jpg"), ("f.txt", "soft:f.txt")]))
    assert found == {
        "./x/a": {"jpg": b"picture"},
        "./x/b": {"jpg": b"picture", "txt": b"b"},
        "c": {"jpg": b"far", "txt": b"c"},
        "x/d": {"jpg": b"far"},
        "e": {"jpg": b"far"},
    }
    assert report.lost == ("links that lead to no file in here left out: 2, first 'f.jpg'",)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("target", ["soft:b.txt", "soft:/data/a.txt", "hard:x.txt"])
def test_a_file_is_taken_rather_than_a_link_of_its_name(source, target, apart):
    link, file = ("a.txt", target), ("a.txt", b"REAL")
    between: list[Entry] = [("c.jpg", b"3")] if apart else []
    for number, both in enumerate(([link, *between, file], [file, *between, link])):
        entries: list[Entry] = [("x.txt", b"LINKED"), ("a.jpg", b"1"), *both, ("b.txt", b"OTHER")]
        (source / f"{number}.tar").write_bytes(packed(entries))
    reports = repaired(source)
    for number, report in enumerate(reports):
        read = {
            sample["__key__"]: sample["txt"]
            for sample in tarloom.open(source.parent / "copy" / f"{number}.tar")
            if "txt" in sample
        }
        assert read == {"x": b"LINKED", "a": b"REAL", "b": b"OTHER"}
        assert "links beside another member of their name left out: 'a.txt'" in report.done
        assert (report.lost, any("same bytes" in line for line in report.done)) == ((), False)


def test_of_links_of_one_name_the_first_is_followed_and_another_said_to_be_lost(source):
    entries: list[Entry] = [("a.jpg", b"1"), ("b.jpg", b"2"), ("c.jpg", "soft:a.jpg"), ("c.jpg", "soft:b.jpg")]
    report, found = repair_one(source, packed(entries))
    assert found["c"] == {"jpg": b"1"}
    assert report.lost == ("links beside another member of their name left out: 'c.jpg'",)


def test_concatenated_archives_become_one(source):
    parts = [packed([(f"{i}.jpg", bytes([i])), (f"{i}.txt", b"x")]) for i in range(3)]
    report, found = repair_one(source, b"".join(parts))
    assert list(found) == ["0", "1", "2"]
    assert report.done == (f"further archives joined: 2, first at byte {len(parts[0])}",)
    assert report.lost == ()


def test_what_lies_behind_the_end_and_is_no_archive_is_counted(source):
    data = packed([("a.jpg", b"1")])
    report, found = repair_one(source, data + b"hello" * 200)
    assert list(found) == ["a"]
    assert report.lost == (f"bytes behind the end of the archive left out: 1000, first at byte {len(data)}",)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_of_a_cut_tar_all_samples_that_are_complete_are_saved(source, suffix):
    entries = [(f"{i:03d}.{kind}", bytes([i]) * 700) for i in range(6) for kind in ("jpg", "txt")]
    data = packed(entries)
    block = 512 + 1024
    for at, complete in ((0, 0), (7, 3), (8, 4), (9, 4)):  # cut inside the data of this member
        for within in (100, 600):  # in its header, in its data
            cut = data[: at * block + within]
            copy = source.parent / f"copy{at}{within}"
            (source / f"a.tar{suffix}").write_bytes(gzip.compress(cut) if suffix else cut)
            (report,) = repaired(source, copy)
            assert report.samples == complete
            assert list(samples_of(copy)) == [f"{i:03d}" for i in range(complete)]
            assert report.lost
            assert complete == 0 or findings(copy) == []


def test_a_sample_whose_end_may_lie_behind_a_cut_in_a_file_of_no_sample_is_left_out(source):
    entries = [(f"{name}.{kind}", b"1") for name in "ab" for kind in ("jpg", "txt")]
    data = packed([*entries[:3], ("._b.txt", bytes(2000)), *entries[3:]])
    report, found = repair_one(source, data[: 3 * 1024 + 600])
    assert list(found) == ["a"]
    assert "incomplete samples left out: 'b'" in report.lost


def test_behind_a_damaged_header_nothing_is_guessed(source):
    data = bytearray(packed([(f"{i}.jpg", bytes(600)) for i in range(5)]))
    data[3 * 1536 + 5] ^= 1
    report, found = repair_one(source, bytes(data))
    assert list(found) == ["0", "1", "2"]
    assert "damaged" in report.lost[0]


def test_a_compressed_tar_becomes_a_plain_one(source):
    data = packed([("a.jpg", b"1" * 5000), ("b.jpg", b"2")])
    report, found = repair_one(source, gzip.compress(data[:3000]) + gzip.compress(data[3000:]), "a.tgz")
    assert found == {"a": {"jpg": b"1" * 5000}, "b": {"jpg": b"2"}}
    assert report.lost == report.done == ()


def test_of_a_compressed_tar_that_is_cut_what_comes_out_is_saved(source):
    entries = [(f"{i}.jpg", hashlib.sha256(bytes([i])).digest() * 100) for i in range(50)]
    whole = gzip.compress(packed(entries))
    report, found = repair_one(source, whole[: len(whole) // 2], "a.tar.gz")
    assert 5 < len(found) < 50
    assert found == {f"{i}": {"jpg": entries[i][1]} for i in range(len(found))}
    assert any("Truncated compressed stream" in line for line in report.lost)


PACKERS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


@pytest.mark.parametrize("kind", PACKERS)
def test_of_a_compressed_tar_with_a_changed_bit_nothing_is_kept_unless_it_is_asked_for(source, kind):
    entries = [(f"{i:03d}.jpg", hashlib.shake_128(bytes([i])).digest(7000)) for i in range(200)]
    data = bytearray(PACKERS[kind](packed(entries)))
    data[len(data) * 9 // 10] ^= 1
    report, found = repair_one(source, bytes(data), f"a.tar.{kind}")
    assert found == {}
    (kept,) = RepairJob(str(source), str(source.parent / "kept"), keep_unproven=True)
    count = len(samples_of(source.parent / "kept"))
    assert count == kept.samples > 0
    assert (
        f"samples left out that no check sum proves (--keep-unproven keeps them): {count}, first '000'" in report.lost
    )
    assert f"samples kept that may have other bytes, as no check sum proves them: {count}, first '000'" in kept.lost


@pytest.mark.parametrize("kind", PACKERS)
def test_of_a_compressed_tar_with_something_else_behind_it_all_is_kept(source, kind):
    entries = [(f"{i:03d}.jpg", hashlib.shake_128(bytes([i])).digest(7000)) for i in range(200)]
    report, found = repair_one(source, PACKERS[kind](packed(entries)) + b"something else", f"a.tar.{kind}")
    assert list(found.items()) == [(f"{i:03d}", {"jpg": entries[i][1]}) for i in range(len(found))]
    assert len(found) > 150
    assert any("cannot be decompressed behind" in line for line in report.lost)


def test_files_of_no_sample_are_left_out_and_counted(source):
    entries: list[Entry] = [("a.jpg", b"1"), ("__MACOSX/._a.jpg", b"2"), (".DS_Store", b"3"), ("README", b"4")]
    report, found = repair_one(source, packed(entries))
    assert found == {"a": {"jpg": b"1"}}
    assert report.done == ("files of no sample left out: 3, first '__MACOSX/._a.jpg'",)
    assert report.lost == ()


def test_members_that_no_table_can_name_are_lost_and_said(source):
    info = tarfile.TarInfo("caf\udce9.jpg")
    data = info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape") + packed([("a.jpg", b"1"), ("a.__key__", b"2")])
    report, found = repair_one(source, data)
    assert found == {"a": {"jpg": b"1"}}
    assert report.lost == ("members whose names no index can hold left out: 2, first 'caf\\udce9.jpg'",)


def test_names_with_dots_are_refused_by_name_before_there_are_thousands_of_extensions(source):
    data = packed([(f"lat_{number}.{number}_lon_7.jpg", b"1") for number in range(1003)])
    (source / "a.tar").write_bytes(data)
    told = "more than 1000 different extensions, such as '1000_lon_7.jpg' at byte .*: keys end at the first dot"
    with pytest.raises(CorruptShard, match=told):
        list(tarloom.open(source))
    assert [bool(re.search(told, finding.problem)) for finding in findings(source)] == [True]
    report, found = repair_one(source, data)
    assert len(found) == 1000
    assert report.lost == ("members whose names no index can hold left out: 3, first 'lat_1000.1000_lon_7.jpg'",)


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100])
def test_where_nothing_can_be_saved_no_tar_is_made(source, data):
    report, found = repair_one(source, data)
    assert (report.samples, report.bytes, found) == (0, 0, {})
    assert report.lost
    assert not (source.parent / "copy" / "a.tar").exists()


def test_an_empty_archive_stays_one(source):
    report, found = repair_one(source, bytes(10240))
    assert (report.samples, report.bytes, report.lost, found) == (0, 10240, (), {})


@pytest.fixture
def dataset(source) -> Path:
    """As creation and two stages leave it."""
    raw.packed_dataset(source, shards=2)
    return source


def test_metadata_stats_and_sidecars_of_sound_tars_come_along(dataset, tmp_path):
    reports = repaired(dataset)
    assert [(report.shard, report.samples, report.done) for report in reports] == [("00000", 8, ()), ("00001", 8, ())]
    copy = tmp_path / "copy"
    assert findings(copy) == []
    names = ("url", "caption.text", "clip.embedding")
    ours, theirs = tarloom.open(copy), tarloom.open(dataset)
    assert [*ours.select(*names).batches()] == [*theirs.select(*names).batches()]
    assert json.loads((copy / "00000_stats.json").read_text())["successes"] == 8


def test_of_a_cut_tar_the_rows_that_still_have_samples_come_along(dataset, tmp_path):
    whole = (dataset / "00001.tar").read_bytes()
    (dataset / "00001.tar").write_bytes(whole[:9000])
    _, report = repaired(dataset)
    copy = tarloom.open(tmp_path / "copy")
    assert findings(tmp_path / "copy") == []
    assert 0 < report.samples < 8
    assert len([*copy.select("url", "caption.text")]) == 8 + report.samples
    assert any("rows of metadata without a sample" in line for line in report.lost)
    assert any("00001_stats.json" in line for line in report.lost)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("00000.parquet", lambda path: edit(path, repeat_first)),
        ("00000.clip.parquet", lambda path: edit(path, drop_last)),
        ("00000.clip.parquet", lambda path: flip(path, 100)),
        ("00000_stats.json", lambda path: path.write_text("{")),
    ],
)
def test_a_file_that_does_not_join_is_left_out_and_said(dataset, tmp_path, name, change):
    change(dataset / name)
    report, _ = repaired(dataset)
    assert not (tmp_path / "copy" / name).exists()
    assert any(name in line for line in report.lost)
    assert findings(tmp_path / "copy") == []


def test_a_sidecar_of_another_version_of_the_tar_is_left_out(dataset, tmp_path):
    samples = [(key, members) for key, members in raw.some_samples(10) if int(key) not in (3, 7)]
    samples[0][1]["jpg"] = b"another"
    raw.write_tar(dataset / "00000.tar", samples)
    (dataset / "_tarloom" / "index" / "00000.parquet").unlink()
    raw.write_stats(dataset, "00000", 10, 2, None)
    report, _ = repaired(dataset)
    assert any("00000.clip.parquet left out: made for another version" in line for line in report.lost)
    assert findings(tmp_path / "copy") == []


def test_a_second_run_skips_what_is_done_and_makes_anew_what_has_changed(dataset, tmp_path):
    first = repaired(dataset)
    copy = tmp_path / "copy"
    (copy / "00001.tar").unlink()
    before = (copy / "00000.tar").stat().st_mtime_ns
    second = repaired(dataset)
    assert [report.skipped for report in second] == [True, False]
    assert [report.samples for report in second] == [report.samples for report in first]
    assert (copy / "00000.tar").stat().st_mtime_ns == before
    (dataset / "00000.tar").write_bytes((dataset / "00000.tar").read_bytes()[:4096])
    (dataset / "00000.clip.parquet").unlink()
    assert [report.skipped for report in repaired(dataset)] == [False, True]
    assert not {copy / "00000_stats.json", copy / "00000.clip.parquet"} & set(copy.iterdir())
    assert findings(copy) == []
    (dataset / "00000.tar").write_bytes(b"")
    assert next(iter(repaired(dataset))).bytes == 0
    assert [path.name for path in copy.glob("00000*")] == []


def test_a_second_run_makes_anew_what_lies_beside_another_table_by_now(dataset, tmp_path):
    repaired(dataset)
    edit(dataset / "00000.caption.parquet", lambda table: table.set_column(1, "text", pa.array(["anew"] * 8)))
    assert [report.skipped for report in repaired(dataset)] == [False, True]
    assert {sample["caption.text"] for sample in tarloom.open(tmp_path / "copy").select("caption.text")} > {"anew"}
    (dataset / "00001.clip.parquet").unlink()
    assert [report.skipped for report in repaired(dataset)] == [True, False]
    assert not (tmp_path / "copy" / "00001.clip.parquet").exists()


def test_a_second_run_keeps_what_stages_made_of_the_copy(dataset, tmp_path):
    copy, caption = tmp_path / "copy", dataset / "00000.caption.parquet"
    made = caption.read_bytes()
    caption.unlink()
    repaired(dataset)
    (copy / "00000.caption.parquet").write_bytes(made)
    (dataset / "00000.clip.parquet").unlink()
    assert [report.skipped for report in repaired(dataset)] == [False, True]
    assert not (copy / "00000.clip.parquet").exists()
    caption.write_bytes(made)
    assert [report.skipped for report in repaired(dataset)] == [False, True]
    assert (copy / "00000.caption.parquet").read_bytes() == made
    assert findings(copy) == []


def test_a_finished_shard_whose_tar_is_gone_is_lost_unless_the_copy_has_it(dataset, tmp_path):
    repaired(dataset, tmp_path / "earlier")
    (dataset / "00001.tar").unlink()
    _, gone = repaired(dataset)
    assert (gone.shard, gone.samples, gone.bytes) == ("00001", 0, 0)
    assert gone.lost == ("00001.tar is gone; run its creation again, or bring it back, and repair again",)
    assert [report.shard for report in repaired(dataset, tmp_path / "earlier")] == ["00000"]
    assert [report.shard for report in repaired(dataset / "00000.tar", tmp_path / "one")] == ["00000"]


@pytest.mark.parametrize("others", [0, 1])
def test_a_tar_that_is_a_link_to_nothing_is_lost(source, others):
    for number in range(others):
        (source / f"{number}.tar").write_bytes(packed([("a.jpg", b"1")]))
    (source / "b.tgz").symlink_to("nowhere")
    *_, gone = reports = repaired(source)
    assert len(reports) == others + 1
    assert (gone.shard, gone.lost) == (
        "b",
        ("b.tgz is gone; run its creation again, or bring it back, and repair again",),
    )


def test_the_command_names_a_tar_that_is_gone_and_its_exit_code_tells(dataset, tmp_path):
    (dataset / "00001.tar").unlink()
    words = [sys.executable, "-m", "tarloom.cli", "repair", str(dataset), "--output", str(tmp_path / "copy")]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 3
    assert "00001: 00001.tar is gone" in ended.stdout


def test_a_second_run_skips_what_an_earlier_version_noted_by_the_tar_alone(dataset, tmp_path):
    repaired(dataset)
    report = tmp_path / "copy" / "_tarloom" / "repair" / "00000.json"
    found = json.loads(report.read_text())
    report.write_text(json.dumps(found | {"source": found["source"][0]}))
    assert [report.skipped for report in repaired(dataset)] == [True, True]


def test_a_dataset_in_an_object_store_is_repaired_into_another(dataset, tmp_path, s3_folder):
    (dataset / "00001.tar").write_bytes((dataset / "00001.tar").read_bytes() * 2)
    remote = open_storage(f"{s3_folder}/source")
    for path in dataset.rglob("*.*"):
        remote.write(str(path.relative_to(dataset)), path.read_bytes())
    here, there = repaired(dataset), list(RepairJob(f"{s3_folder}/source", f"{s3_folder}/copy"))
    assert [(r.samples, r.bytes, r.done) for r in here] == [(r.samples, r.bytes, r.done) for r in there]
    assert any("further archives" in line for line in there[1].done)
    copy = open_storage(f"{s3_folder}/copy")
    for name in ("00000.tar", "00001.tar", "00000.clip.parquet"):
        assert copy.read(name) == (tmp_path / "copy" / name).read_bytes()


@pytest.mark.parametrize(("entries", "code"), [([("a.jpg", b"1"), ("b.jpg", b"2"), ("a.txt", b"3")], 0), ([], 3)])
def test_the_command_says_what_was_done_and_whether_something_was_lost(source, tmp_path, entries, code):
    (source / "a.tar").write_bytes(packed(entries) if entries else b"no tar")
    words = [sys.executable, "-m", "tarloom.cli", "repair", "--path", str(source), "--output", str(tmp_path / "copy")]
    ended = subprocess.run([*words, "--json"], capture_output=True, text=True)
    said = json.loads(ended.stdout.splitlines()[-1])
    assert (ended.returncode, said["exit_code"], said["shards"]) == (code, code, 1 if entries else 0)
    assert said["done" if entries else "lost"][0].startswith("a: ")
    again = subprocess.run([*words[:-1], str(source)], capture_output=True, text=True)
    assert again.returncode == 2
    assert "lies in the source" in again.stderr


def test_one_tar_alone_is_repaired(dataset, tmp_path):
    (report,) = repaired(dataset / "00001.tar", tmp_path / "copy")
    assert report.shard == "00001"
    assert findings(tmp_path / "copy") == []


@pytest.mark.parametrize("output", ["", "inside", "..", "../source/x.tar", "../else/../source", "../link/inside"])
def test_it_never_works_in_place(dataset, output):
    (dataset.parent / "else").mkdir()
    (dataset.parent / "link").symlink_to(dataset)
    with pytest.raises(UsageError, match=r"output .*: (lies in the source|give a folder)"):
        repaired(dataset, dataset / output)


def test_it_writes_into_no_folder_of_something_else(dataset, tmp_path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match=r"holds letter\.txt"):
        repaired(dataset)
    raw.write_tar(tmp_path / "other" / "a.tar", raw.some_samples(2))
    repaired(tmp_path / "other", tmp_path / "copy2")
    with pytest.raises(UsageError, match="of no such repair"):
        repaired(dataset, tmp_path / "copy2")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no shard"):
        repaired(tmp_path / "empty")


def test_a_tar_whose_own_name_is_not_utf8_is_refused_by_name(source):
    (source / "caf\udce9.tar").write_bytes(packed([("a.jpg", b"1")]))
    for look in (repaired, findings):
        with pytest.raises(UsageError, match=r"the name of the shard 'caf\\udce9' is not UTF-8; rename its files"):
            look(source)


def test_the_copy_is_the_same_whatever_the_headers_of_the_source(source, tmp_path):
    entries: list[Entry] = [("a.jpg", b"1"), ("é.jpg", b"2")]
    copies = set()
    for number, format in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        (source / "a.tar").write_bytes(packed(entries, format))
        repaired(source, tmp_path / f"copy{number}")
        copies.add((tmp_path / f"copy{number}" / "a.tar").read_bytes())
    assert len(copies) == 1
