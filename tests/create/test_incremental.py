"""What becomes of an output that is there: gone on with, extended by another source, or overwritten."""

import pytest

import tarloom
from tarloom.errors import PlanMismatch, UsageError
from tarloom.format.storage import open_storage
from tarloom.format.verify.dataset import verify
from tests.create.helpers import contents, create, rows, write_list


@pytest.fixture
def lists(photo_server, tmp_path):
    """Two lists of 25 and 12 rows."""
    urls = [f"{photo_server.url}/pictures/{n:04d}.jpg" for n in range(1, 60) if n % 12][:37]
    return write_list(tmp_path / "one.txt", urls[:25]), write_list(tmp_path / "two.txt", urls[25:])


def findings(out):
    return [finding for report in verify(out) for finding in report.findings]


def test_a_further_source_gets_shards_behind_those_that_are_there(lists, tmp_path):
    out = tmp_path / "out"
    create(lists[0], out)
    before = contents(out)
    summary = create(lists[1], out, incremental_mode="extend")
    assert (summary.rows, summary.shards) == (12, 2)
    assert {name: data for name, data in contents(out).items() if name in before} == before
    assert [row["key"] for row in rows(out, "00003")] == [f"{n:09d}" for n in range(30, 40)]
    assert [row["key"] for row in rows(out, "00004")] == ["000000040", "000000041"]
    assert len(tarloom.open(out)) == 37
    assert findings(out) == []


def test_keys_by_shard_go_on_as_in_img2dataset(lists, tmp_path):
    create(lists[0], tmp_path / "out", key_from="shard")
    create(lists[1], tmp_path / "out", key_from="shard", incremental_mode="extend")
    assert [row["key"] for row in rows(tmp_path / "out", "00004")] == ["000040", "000041"]


def test_an_extension_is_gone_on_with_and_never_made_twice(lists, tmp_path):
    out = tmp_path / "out"
    create(lists[0], out)
    create(lists[1], out, incremental_mode="extend")
    whole = contents(out)
    (out / "00004.tar").rename(tmp_path / "away")
    assert "1 of 2 planned shards are not here" in " ".join(finding.problem for finding in findings(out))
    (tmp_path / "away").rename(out / "00004.tar")
    for mode, gone in [("extend", "00004"), ("incremental", "00003"), ("incremental", "00001")]:
        (out / f"{gone}_stats.json").unlink()
        summary = create(lists[gone > "00002"], out, incremental_mode=mode)
        assert summary.shards - summary.skipped == 1
        assert contents(out) == whole


def test_an_extension_may_have_other_options(lists, tmp_path):
    out = tmp_path / "out"
    create(lists[0], out)
    create(lists[1], out, incremental_mode="extend", number_sample_per_shard=5, encode_format="png", encode_quality=1)
    assert sorted(path.name for path in out.glob("*.tar")) == [f"{n:05d}.tar" for n in range(6)]
    keys = [row["key"] for n in range(6) for row in rows(out, f"{n:05d}")]
    assert len(set(keys)) == 37
    assert findings(out) == []


def test_extending_an_empty_place_is_creating(lists, tmp_path):
    create(lists[0], tmp_path / "one")
    create(lists[0], tmp_path / "two", incremental_mode="extend")
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_another_source_without_a_word_about_it_is_refused(lists, tmp_path):
    create(lists[0], tmp_path / "out")
    with pytest.raises(PlanMismatch, match=r"contents have changed; .* incremental_mode"):
        create(lists[1], tmp_path / "out")


def test_overwriting_deletes_what_is_the_outputs_and_nothing_else(lists, tmp_path):
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    create(lists[0], out, oom_shard_count=3)
    create(lists[1], out, oom_shard_count=3, incremental_mode="extend")
    mine = ["notes.txt", "2024.parquet", "000.txt", "000.backup/000.txt", "other/000.parquet", "00000/x", "x.json"]
    (out / "000.caption.parquet").write_bytes(b"a sidecar")
    for name in mine:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(b"mine")
    create(lists[1], out, incremental_mode="overwrite")
    create(lists[1], fresh)
    assert contents(out) == contents(fresh) | dict.fromkeys(mine, b"mine")


@pytest.mark.parametrize("name", ["2024.tar", "backup/000.tar"])
def test_nothing_is_overwritten_where_shards_of_others_lie(lists, tmp_path, name):
    out = tmp_path / "out"
    create(lists[0], out)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_bytes(b"mine")
    before = contents(out)
    with pytest.raises(UsageError, match="is not this output's"):
        create(lists[1], out, incremental_mode="overwrite")
    assert contents(out) == before


@pytest.mark.parametrize("output_format", ["files", "parquet", "dummy"])
def test_every_output_format_is_overwritten(lists, tmp_path, output_format):
    create(lists[0], tmp_path / "out", output_format=output_format)
    create(lists[1], tmp_path / "out", incremental_mode="overwrite")
    create(lists[1], tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_nothing_is_overwritten_by_a_run_that_cannot_begin(lists, tmp_path):
    out = tmp_path / "out"
    create(lists[0], out)
    before = contents(out)
    empty = write_list(tmp_path / "empty.txt", [])
    for source, more in [(empty, {}), (tmp_path / "absent.txt", {}), (lists[1], {"shards": "0:1"})]:
        with pytest.raises(UsageError):
            create(source, out, incremental_mode="overwrite", **more)
        assert contents(out) == before


def test_an_interrupted_overwriting_is_taken_up_again(lists, tmp_path):
    """Deleting begins with the stats and ends with the plan: this is one state in between."""
    out = tmp_path / "out"
    create(lists[0], out)
    for name in ("00000_stats.json", "00001_stats.json", "00002_stats.json", "00000.tar"):
        (out / name).unlink()
    (out / "00000.caption.parquet").write_bytes(b"a sidecar")
    create(lists[1], out, incremental_mode="overwrite")
    create(lists[1], tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_numbered_shards_without_a_plan_are_extended(lists, tmp_path):
    """As img2dataset leaves them."""
    out = tmp_path / "out"
    create(lists[0], out)
    (out / "_tarloom" / "plan.json").unlink()
    with pytest.raises(UsageError, match="not of a plan"):
        create(lists[1], out)
    create(lists[1], out, incremental_mode="extend")
    assert [row["key"] for row in rows(out, "00003")] == [f"{n:09d}" for n in range(30, 40)]
    assert len(tarloom.open(out)) == 37


@pytest.mark.parametrize("name", ["photos.tar", "00007.tar"])
def test_shards_whose_end_is_not_known_are_not_extended(lists, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(bytes(10240))
    with pytest.raises(UsageError, match="cannot be extended"):
        create(lists[1], out, incremental_mode="extend")


def test_an_object_store_is_extended_and_overwritten(lists, s3_folder, tmp_path):
    for source, mode in [(lists[0], "incremental"), (lists[1], "extend")]:
        create(source, s3_folder, incremental_mode=mode)
        create(source, tmp_path / "local", incremental_mode=mode)
    assert names(s3_folder) == names(str(tmp_path / "local"))
    assert len(tarloom.open(s3_folder)) == 37
    create(lists[1], s3_folder, incremental_mode="overwrite")
    create(lists[1], tmp_path / "fresh")
    assert names(s3_folder) == names(str(tmp_path / "fresh"))


def names(folder: str) -> set[str]:
    return {entry.name for entry in open_storage(folder).list()}


@pytest.mark.parametrize("source", ["out/00000.parquet", "out/*.tar", "link.parquet"])
def test_overwriting_deletes_no_source(lists, tmp_path, source):
    out = tmp_path / "out"
    create(lists[0], out)
    (tmp_path / "link.parquet").symlink_to(out / "00000.parquet")
    before = contents(out)
    with pytest.raises(UsageError, match="would be deleted with the output's shards; copy it elsewhere first"):
        create(tmp_path / source, out, incremental_mode="overwrite")
    assert contents(out) == before


def test_a_list_that_lies_beside_the_shards_may_overwrite_them(lists, tmp_path):
    out = tmp_path / "out"
    create(lists[0], out)
    lists[1].rename(out / "two.txt")
    assert create(out / "two.txt", out, incremental_mode="overwrite").rows == 12
