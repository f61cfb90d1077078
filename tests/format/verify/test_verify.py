"""Every kind of damage to every kind of file is found and named; what is sound has no finding."""

import json
import random
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tarloom.errors import UsageError
from tarloom.format.catalog_file import SCHEMA, write_catalog
from tarloom.format.layout import CATALOG
from tarloom.format.storage import open_storage
from tarloom.format.verify.dataset import verify, verify_shard
from tests.format import raw
from tests.format.verify.damage import (
    damaged_files,
    drop_last,
    edit,
    findings,
    flip,
    repeat_first,
    swap_first_two,
    with_value,
)


@pytest.fixture(scope="session")
def sound(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    raw.packed_dataset(folder)
    return folder


@pytest.fixture
def ours(sound, tmp_path) -> Path:
    """A copy of a sound dataset that a test may damage."""
    return shutil.copytree(sound, tmp_path / "ours")


def test_a_sound_dataset_has_no_findings(ours):
    reports = list(verify(ours))
    sizes = [(ours / f"{name}.tar").stat().st_size for name in ("00000", "00001")]
    assert [(r.shard, r.rows, r.bytes) for r in reports] == [("", 0, 0), ("00000", 8, sizes[0]), ("00001", 8, sizes[1])]
    assert [finding for report in reports for finding in report.findings] == []


def test_one_tar_is_checked_with_what_belongs_to_it(ours):
    (ours / "00000.clip.parquet").write_bytes(b"damaged")
    (report,) = verify(ours / "00000.tar")
    assert [finding.file for finding in report.findings] == ["00000.clip.parquet"]
    (report,) = verify(ours / "00001.tar")
    assert (report.shard, report.findings) == ("00001", ())
    with pytest.raises(UsageError, match=r"00009\.tar: no shard"):
        list(verify(ours / "00009.tar"))


def test_a_folder_without_shards_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match="no shard"):
        findings(tmp_path)


def test_whatever_bit_of_the_files_beside_a_tar_is_flipped_the_check_comes_to_its_end(tmp_path):
    raw.packed_dataset(tmp_path, shards=1, rows=3)
    draw = random.Random(0)
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".tar"):
        sound = path.read_bytes()
        ends = len(sound) * 2 // 3  # parquet's footers, where most of the traps are
        for at in [draw.randrange(ends, len(sound)) for _ in range(60)]:
            path.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << draw.randrange(8)]) + sound[at + 1 :])
            assert {finding.shard for finding in findings(tmp_path)} <= {"", "00000"}
        path.write_bytes(sound)


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_anywhere_in_a_packed_tar_is_found(ours, seed):
    tar = ours / "00001.tar"
    flip(tar, random.Random(seed).randrange(tar.stat().st_size))
    assert damaged_files(ours) - {INDEX} == {"00001.tar"}, (
        "one thing is wrong, and files that fit the sound tar are not"
    )


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.7])
def test_a_cut_tar_is_found(ours, share):
    tar = ours / "00001.tar"
    tar.write_bytes(tar.read_bytes()[: int(tar.stat().st_size * share)])
    assert damaged_files(ours) == {"00001.tar"}
    assert "ends at byte" in findings(ours)[0].problem


def test_a_tar_that_lost_some_of_the_zeros_at_its_end_is_not_the_one_that_was_packed(ours):
    tar = ours / "00001.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    assert damaged_files(ours) == {"00001.tar"}


def test_a_tar_cut_to_a_whole_number_of_samples_is_found(ours):
    places = raw.write_tar(ours / "00001.tar", raw.some_samples(5, first=10))
    cut = places[-1][2] + 512
    (ours / "00001.tar").write_bytes((ours / "00001.tar").read_bytes()[:cut])
    assert "00001.tar" in damaged_files(ours)


INDEX, METADATA, CAPTION, CLIP = (
    "_tarloom/index/00001.parquet",
    "00001.parquet",
    "00001.caption.parquet",
    "00001.clip.parquet",
)
ROWS_LOST = {"drop": drop_last, "swap": swap_first_two, "repeat": repeat_first}
CHANGES = {
    **{
        f"{file} {name}": (file, change)
        for file in (INDEX, METADATA, CAPTION, CLIP)
        for name, change in ROWS_LOST.items()
    },
    "index key": (INDEX, with_value("__key__", 2, "other")),
    "index offset": (INDEX, with_value("jpg:offset", 2, 512)),
    "index size": (INDEX, with_value("json:size", 0, None)),
    "index column": (INDEX, lambda table: table.drop_columns(["txt:offset", "txt:size"])),
    "metadata key": (METADATA, with_value("key", 0, "other")),
    "metadata key of a failure": (METADATA, with_value("key", 3, "000000010")),
    "metadata status": (METADATA, with_value("status", 0, "failed_to_resize")),
    "metadata status unknown": (METADATA, with_value("status", 3, "lost")),
    "metadata status of a failure": (METADATA, with_value("status", 3, "failed_to_resize")),
    "metadata error": (METADATA, with_value("error", 3, None)),
    "metadata error of a success": (METADATA, with_value("error", 0, "http_404")),
    "metadata column": (METADATA, lambda table: table.drop_columns(["status"])),
    "sidecar key": (CAPTION, with_value("__key__", 2, "other")),
    "sidecar status": (CAPTION, with_value("status", 2, "failed")),
    "sidecar status unknown": (CAPTION, with_value("status", 2, "lost")),
    "sidecar error": (CLIP, with_value("error", 2, "bad_image")),
    "sidecar columns": (CLIP, lambda table: table.drop_columns(["error"])),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_changed_table_is_found(ours, case):
    file, change = CHANGES[case]
    edit(ours / file, change)
    found = damaged_files(ours)
    assert found & {file, "00001_stats.json"}, "a consistent change of a status is seen in the counts"
    assert found <= {file, "00001_stats.json"}


@pytest.mark.parametrize("file", [INDEX, METADATA, CAPTION, CLIP])
@pytest.mark.parametrize("share", [0, 0.3, 0.999])
def test_a_cut_table_is_found(ours, file, share):
    path = ours / file
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert damaged_files(ours) == {file}


@pytest.mark.parametrize("key", ["tarloom.identity", "tarloom.rows", "tarloom.stage"])
@pytest.mark.parametrize("file", [CAPTION, CLIP])
def test_a_sidecar_made_for_something_else_is_found(ours, file, key):
    table = pq.read_table(ours / file)
    footer = {**table.schema.metadata, key.encode(): b"7"}
    pq.write_table(table.replace_schema_metadata(footer), ours / file)
    assert damaged_files(ours) == {file}


def test_a_stale_sidecar_says_to_run_the_stage_again(ours):
    keys = [f"{i:09d}" for i in range(10, 20) if i not in (13, 17)]
    raw.write_sidecar(ours, "00001", "caption", keys, {"text": ["x"] * 8}, "sha256:old")
    (finding,) = findings(ours)
    assert (finding.shard, finding.file) == ("00001", CAPTION)
    assert "made for sha256:old" in finding.problem
    assert "run the stage again" in finding.problem


@pytest.mark.parametrize(
    "change",
    [
        {"count": 11},
        {"successes": 9},
        {"failed_to_download": 1},
        {"failed_to_resize": 1},
        {"status_dict": {"success": 8}},
        {"status_dict": {"success": 7, "http_404: Not Found": 3}},
        {"identity": "sha256:0"},
        {"tar_size": 1},
        {"count": "many"},
        {"status_dict": 3},
    ],
    ids=str,
)
def test_edited_stats_are_found(ours, change):
    path = ours / "00001_stats.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert damaged_files(ours) <= {"00001_stats.json", "00001.tar"}
    assert damaged_files(ours)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "3"])
@pytest.mark.parametrize("file", ["00001_stats.json", "_tarloom/plan.json"])
def test_json_that_is_not_what_it_should_be_is_found(ours, file, text):
    (ours / file).write_text(text)
    assert damaged_files(ours) == {file} or (file.endswith("plan.json") and text == "{}")


DELETED = {
    "00001.tar": {"00001.parquet", "00001_stats.json", "00001.caption.parquet", "00001.clip.parquet"},
    "00001_stats.json": {"00001.tar"},
    METADATA: {METADATA},
    INDEX: {INDEX},
}


@pytest.mark.parametrize("file", DELETED)
def test_a_deleted_file_is_found(ours, file):
    (ours / file).unlink()
    assert damaged_files(ours) == DELETED[file]


def test_a_sidecar_that_was_never_made_is_no_damage(ours):
    (ours / CAPTION).unlink()
    assert findings(ours) == []


def test_a_left_over_temporary_is_a_warning(ours):
    (ours / ".tmp-00002.tar-0123").write_bytes(b"half")
    (finding,) = findings(ours)
    assert (finding.file, finding.kind) == (".tmp-00002.tar-0123", "warning")


def test_an_index_without_its_tar_is_a_warning(ours):
    shutil.copy(ours / INDEX, ours / "_tarloom/index/00007.parquet")
    (finding,) = findings(ours)
    assert (finding.shard, finding.kind) == ("00007", "warning")


def test_a_catalogue_is_no_stray_and_one_that_cannot_be_used_is_a_warning(ours):
    write_catalog(open_storage(ours), SCHEMA.empty_table())
    assert findings(ours) == []
    (ours / CATALOG).write_bytes(b"half")
    (finding,) = findings(ours)
    assert (finding.file, finding.kind) == (CATALOG, "warning")
    assert "made anew" in finding.problem


def test_a_dataset_that_lies_in_another_has_indexes_of_its_own(ours):
    shutil.copytree(ours, ours / "recut")
    found = [finding.file for report in verify(ours) for finding in report.findings]
    assert [file for file in found if file.startswith("recut/_tarloom")] == []


def test_shards_of_the_plan_that_are_not_there_are_a_warning(ours):
    (ours / "_tarloom/plan.json").write_text('{"rows": 25, "rows_per_shard": 10}')
    (finding,) = findings(ours)
    assert (finding.file, finding.kind) == ("_tarloom/plan.json", "warning")
    assert "1 of 3 planned shards" in finding.problem


def test_a_plan_of_more_shards_than_can_be_counted_is_a_warning(ours):
    (ours / "_tarloom/plan.json").write_text(f'{{"rows": {10**30}, "rows_per_shard": 1, "digits": 5}}')
    (finding,) = findings(ours)
    assert f"{10**30 - 2} of {10**30} planned shards" in finding.problem
    (ours / "_tarloom/plan.json").write_text(f'{{"rows": 2, "rows_per_shard": 1, "digits": {10**12}}}')
    (finding,) = findings(ours)
    assert "2 of 2 planned shards" in finding.problem


def test_a_dataset_in_an_object_store_is_checked_alike(ours, s3_folder):
    remote = open_storage(s3_folder)
    for entry in open_storage(ours).list():
        remote.write(entry.name, (ours / entry.name).read_bytes())
    assert findings(s3_folder) == []
    flip(ours / "00001.tar", 700)
    remote.write("00001.tar", (ours / "00001.tar").read_bytes())
    assert {finding.file for finding in findings(s3_folder)} == {"00001.tar"}


def replaced_tar(folder: Path, samples: list) -> None:
    raw.write_tar(folder / "00001.tar", samples)


def test_a_sample_packed_twice_or_in_two_places_is_found(ours):
    samples = raw.some_samples(3, first=10)
    for content in ([*samples, samples[0]], [samples[0], samples[0]]):
        replaced_tar(ours, content)
        assert "00001.tar" in damaged_files(ours)


def test_every_finding_says_where_what_and_what_to_do(ours):
    edit(ours / METADATA, drop_last)
    flip(ours / "00000.tar", 600)
    edit(ours / CAPTION, drop_last)
    found = findings(ours)
    assert len(found) >= 3
    for finding in found:
        assert finding.shard in ("00000", "00001")
        assert (ours / finding.file).exists()
        assert "again" in finding.problem or "anew" in finding.problem
        assert str(ours) not in finding.problem.partition(":")[0]


def test_one_shard_is_checked_with_its_own_files_alone(ours):
    storage = open_storage(ours)
    names = [entry.name for entry in storage.list() if "00001" in entry.name or "plan" in entry.name]
    report = verify_shard(storage, "00001", names, ["caption"])
    assert (report.findings, report.rows) == ((), 8)
