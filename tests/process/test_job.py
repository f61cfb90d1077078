"""The one shard loop, with a small stage: every row accounted for, every sidecar whole and never overwritten."""

import shutil

import pyarrow.parquet as pq
import pytest

from tarloom.engines.local import LocalEngine
from tarloom.errors import CorruptShard, StageMismatch, UsageError
from tarloom.format.index_load import load_index
from tarloom.format.sidecar import check_fresh, sidecar_info
from tarloom.format.storage import open_storage
from tarloom.process.config import ProcessConfig
from tarloom.process.job import ProcessJob
from tests.process.shards import LengthStage, sidecars, write_shard


def texts(*values: bytes, first: int = 0):
    return [(f"{first + i:04d}", {"txt": value}) for i, value in enumerate(values)]


@pytest.fixture
def folder(tmp_path):
    """Three shards of 5, 0 and 10 rows; row 0003 is bad."""
    place = tmp_path / "shards"
    place.mkdir()
    write_shard(place / "a.tar", texts(b"x", b"xy", b"", b"bad", b"abcde"))
    write_shard(place / "b.tar", [])
    write_shard(place / "c.tar", texts(*[b"text"] * 10, first=5))
    return place


def run(path, stage=None, workers=1, **options):
    job = ProcessJob(stage or LengthStage(), ProcessConfig(path=str(path), **options), LocalEngine(workers))
    job.prepare()
    reports = list(job)
    return job, reports


def test_every_row_of_every_shard_is_in_a_sidecar_with_its_status(folder):
    job, reports = run(folder)
    rows = pq.read_table(folder / "a.length.parquet").to_pylist()
    assert [(r["__key__"], r["length"], r["status"], r["error"]) for r in rows] == [
        ("0000", 1, "success", None),
        ("0001", 2, "success", None),
        ("0002", 0, "success", None),
        ("0003", None, "failed", "bad_text"),
        ("0004", 5, "success", None),
    ]
    assert sorted(sidecars(folder, "length")) == ["a.length.parquet", "b.length.parquet", "c.length.parquet"]
    assert pq.read_table(folder / "b.length.parquet").schema.names == [
        "__key__",
        "length",
        "in_batch",
        "status",
        "error",
    ]
    assert {r.shard: (r.rows, r.successes, r.errors) for r in reports} == {
        "a": (5, 4, {"bad_text": 1}),
        "b": (0, 0, {}),
        "c": (10, 10, {}),
    }
    assert job.total == 15
    summary = job.summary()
    assert (summary.rows, summary.successes, summary.failed_by_error) == (15, 14, {"bad_text": 1})
    assert (summary.shards, summary.skipped, summary.failed_shards) == (3, 0, {})


def test_batches_have_a_fixed_size_and_never_cross_shards(folder):
    run(folder)
    assert pq.read_table(folder / "a.length.parquet")["in_batch"].to_pylist() == [4, 4, 4, 4, 1]
    assert pq.read_table(folder / "c.length.parquet")["in_batch"].to_pylist() == [4] * 8 + [2] * 2


def test_the_footer_names_the_stage_its_fingerprint_and_the_shard_it_was_made_for(folder):
    run(folder)
    storage = open_storage(folder)
    info = sidecar_info(storage, "a", "length")
    assert (info.stage, info.rows, dict(info.fingerprint)) == ("length", 5, {"stage": "length", "unit": "bytes"})
    check_fresh(info, load_index(storage, "a", storage.head("a.tar")), "a.length.parquet")


def test_a_second_run_does_nothing_and_counts_the_same(folder):
    first, _ = run(folder)
    before = sidecars(folder, "length")
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    second, reports = run(folder, LengthStage(folder="unused"))
    assert all(report.skipped for report in reports)
    assert sidecars(folder, "length") == before
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.parquet")} == times
    one, two = first.summary(), second.summary()
    assert (two.rows, two.successes, two.failed_by_error) == (one.rows, one.successes, one.failed_by_error)
    assert two.skipped == two.shards == 3


def test_only_missing_sidecars_are_made(folder):
    run(folder)
    before = sidecars(folder, "length")
    (folder / "c.length.parquet").unlink()
    _, reports = run(folder)
    assert sorted((r.shard, r.skipped) for r in reports) == [("a", True), ("b", True), ("c", False)]
    assert sidecars(folder, "length") == before


def test_another_fingerprint_is_refused_with_the_difference_shown(folder):
    run(folder)
    before = sidecars(folder, "length")
    with pytest.raises(
        StageMismatch, match=r"a\.length\.parquet: made with unit 'bytes' \(now 'miles'\).*--name, .*process .*--over"
    ):
        run(folder, LengthStage(unit="miles"))
    assert sidecars(folder, "length") == before


def test_another_fingerprint_may_have_another_name(folder):
    run(folder)
    before = sidecars(folder, "length")
    run(folder, LengthStage(unit="miles"), name="miles")
    assert sidecars(folder, "length") == before
    assert len(sidecars(folder, "miles")) == 3


def test_overwrite_replaces_what_another_fingerprint_made(folder):
    run(folder)
    _, reports = run(folder, LengthStage(unit="miles"), overwrite=True)
    assert not any(report.skipped for report in reports)
    assert sidecar_info(open_storage(folder), "a", "length").fingerprint["unit"] == "miles"
    _, again = run(folder, LengthStage(unit="miles"), overwrite=True)
    assert all(report.skipped for report in again)


def test_a_file_of_a_sidecars_name_that_is_none_is_not_overwritten(folder):
    (folder / "a.length.parquet").write_bytes(b"precious")
    with pytest.raises(CorruptShard, match=r"a\.length\.parquet.*tarloom process .*with --overwrite"):
        run(folder)
    assert (folder / "a.length.parquet").read_bytes() == b"precious"
    run(folder, overwrite=True)
    assert pq.read_table(folder / "a.length.parquet").num_rows == 5


def test_a_shard_that_changed_is_done_again(folder):
    run(folder)
    before = sidecars(folder, "length")
    write_shard(folder / "a.tar", texts(b"now", b"other", b"texts" * 4000))
    _, reports = run(folder)
    assert sorted((r.shard, r.skipped) for r in reports) == [("a", False), ("b", True), ("c", True)]
    after = sidecars(folder, "length")
    assert pq.read_table(folder / "a.length.parquet")["length"].to_pylist() == [3, 5, 20000]
    assert {name: after[name] for name in after if name[0] != "a"} == {n: before[n] for n in before if n[0] != "a"}


@pytest.mark.parametrize("misfortune", [b"boom", b"kill"])
def test_a_shard_whose_try_fails_is_tried_again(folder, tmp_path, misfortune):
    write_shard(folder / "d.tar", texts(misfortune, first=20))
    job, _ = run(folder, LengthStage(folder=str(tmp_path)), workers=2)
    assert job.summary().failed_shards == {}
    assert len(sidecars(folder, "length")) == 4


@pytest.mark.parametrize("misfortune", [b"boom", b"kill"])
def test_a_shard_that_always_fails_is_reported_and_the_others_go_on(folder, misfortune):
    write_shard(folder / "b2.tar", texts(misfortune, first=20))
    job, reports = run(folder, workers=2)
    assert sorted(r.shard for r in reports) == ["a", "b", "c"]
    assert list(job.summary().failed_shards) == ["b2"]
    assert sorted(sidecars(folder, "length")) == ["a.length.parquet", "b.length.parquet", "c.length.parquet"]


def test_a_stage_that_failed_on_every_shard_is_not_said_to_be_skipped(tmp_path):
    write_shard(tmp_path / "a.tar", texts(b"boom", first=0))
    job, _ = run(tmp_path)
    assert not job.summary().stages["length"].skipped


def test_the_number_of_workers_does_not_change_a_byte(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    run(folder)
    run(other, workers=3)
    assert sidecars(folder, "length") == sidecars(other, "length")


def test_the_sidecars_columns_join_the_dataset(folder):
    import tarloom

    run(folder)
    samples = list(tarloom.open(folder).select("txt", "length.length", "length.error"))
    assert [s["length.length"] for s in samples[:5]] == [1, 2, 0, None, 5]
    assert samples[3]["length.error"] == "bad_text"


def test_leftovers_of_a_killed_run_are_swept(folder):
    leftover = folder / ".tmp-a.length.parquet-0123456789ab"
    leftover.write_bytes(b"half a sidecar")
    run(folder)
    assert not leftover.exists()


@pytest.mark.parametrize(
    ("options", "stage", "message"),
    [
        ({"name": "a/b"}, {}, "stage name"),
        ({"name": ""}, {}, "stage name"),
        ({}, {"usable": False}, "this stage cannot work"),
    ],
)
def test_wrong_use_ends_before_any_work(folder, options, stage, message):
    with pytest.raises(UsageError, match=message):
        run(folder, LengthStage(**stage), **options)
    assert sidecars(folder, "length") == {}


def test_an_absent_or_empty_folder_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        run(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no shard"):
        run(tmp_path)


def test_a_dataset_without_the_members_a_stage_needs_is_a_usage_error(tmp_path):
    write_shard(tmp_path / "a.tar", [("0", {"wav": b"..."})])
    with pytest.raises(UsageError, match=r"no member that this stage can use \(txt\); it has wav"):
        run(tmp_path)


def test_a_sidecar_may_not_take_the_place_of_another_shards_metadata(tmp_path):
    write_shard(tmp_path / "a.tar", texts(b"x"))
    write_shard(tmp_path / "a.b.tar", texts(b"x"))
    with pytest.raises(UsageError, match=r"a\.b\.parquet is another shard's metadata"):
        run(tmp_path, name="b")
