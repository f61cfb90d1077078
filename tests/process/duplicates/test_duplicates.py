"""`tarloom duplicates`: copies are marked in sidecars, and readers can leave them out."""

import io
import json

import pyarrow.parquet as pq
import pytest
from PIL import Image

import tarloom
from tarloom.cli import run as run_command
from tarloom.errors import UsageError
from tarloom.format.verify.dataset import verify
from tarloom.process.duplicates.job import DuplicatesConfig, mark_duplicates
from tarloom.process.stages.hash import HashStage
from tests.process.shards import ROOT, encoded, sidecars, write_shard
from tests.process.stage_contract import run

PICTURES = [(ROOT / f"source_data/pictures/{number}.jpg").read_bytes() for number in ("0014", "0034", "0149")]


def resized(data: bytes) -> bytes:
    return encoded(Image.open(io.BytesIO(data)).resize((300, 220)))


@pytest.fixture
def folder(tmp_path):
    """Two shards with hashes: 0 and 2 are one picture, 1 and 5 another, 3 is alone, 4 is none, and 6 is of both."""
    members = [PICTURES[0], PICTURES[1], resized(PICTURES[0]), PICTURES[2], b"none", resized(PICTURES[1]), PICTURES[0]]
    samples = [(f"{number}", {"jpg": data}) for number, data in enumerate(members)]
    write_shard(tmp_path / "a.tar", samples[:3])
    write_shard(tmp_path / "b.tar", samples[3:])
    run(tmp_path, {"hash": HashStage()})
    return tmp_path


def rows(folder):
    return [row for path in sorted(folder.glob("*.duplicates.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.mark.usefixtures("program_here")
def test_copies_name_the_first_picture_that_is_alike_in_any_shard(folder, capsys):
    assert run_command("duplicates", str(folder), "--json") == 0
    assert {row["__key__"]: row["copy_of"] for row in rows(folder)} == {
        **{"0": None, "1": None, "2": "0", "3": None},
        **{"4": None, "5": "1", "6": "0"},
    }
    assert [row["error"] for row in rows(folder)] == [None] * 4 + ["no_hash"] + [None] * 2
    assert rows(folder)[6]["distance"] == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["rows"], said["hashes"], said["copies"], said["originals"], said["most_copies"]) == (7, 6, 3, 2, 2)


def test_hashes_that_were_carried_over_lie_beside_others(folder):
    """Their keys may be null, as the file says."""
    path = folder / "b.hash.parquet"
    table = pq.read_table(path)
    assert not table.schema.field("__key__").nullable
    pq.write_table(table.set_column(0, "__key__", table.column("__key__")), path)
    assert mark_duplicates(DuplicatesConfig(path=str(folder))).copies == 3


def test_readers_leave_copies_out_and_the_dataset_stays_sound(folder):
    mark_duplicates(DuplicatesConfig(path=str(folder)))
    once = tarloom.open(folder).where("duplicates.copy_of IS NULL AND duplicates.status = 'success'")
    assert [sample["__key__"] for sample in once] == ["0", "1", "3"]
    assert [finding for report in verify(str(folder)) for finding in report.findings] == []


def test_again_it_writes_the_same_and_another_distance_replaces_it(folder):
    mark_duplicates(DuplicatesConfig(path=str(folder), hash="hash.dhash"))
    before = sidecars(folder, "duplicates")
    mark_duplicates(DuplicatesConfig(path=str(folder), hash="hash.dhash"))
    assert sidecars(folder, "duplicates") == before
    assert mark_duplicates(DuplicatesConfig(path=str(folder), distance=0)).copies >= 1
    assert sidecars(folder, "duplicates") != before


def test_a_shard_without_hashes_or_with_old_ones_is_a_usage_error(folder):
    write_shard(folder / "a.tar", [("9", {"jpg": PICTURES[0] + b"\n" * 9000})])
    with pytest.raises(UsageError, match=r"a\.hash\.parquet: made for another version of its shard; run tarloom proc"):
        mark_duplicates(DuplicatesConfig(path=str(folder)))
    (folder / "a.hash.parquet").unlink()
    with pytest.raises(UsageError, match=r"a\.hash\.parquet: not there; run tarloom process --stages hash first"):
        mark_duplicates(DuplicatesConfig(path=str(folder)))
    assert rows(folder) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": 10}, "distance must be 0 to 9, not 10"),
        ({"hash": "hash.sha256"}, "'sha256' is no column of 64-bit hashes; give --hash"),
        ({"hash": "hash"}, "'hash' is no column of 64-bit hashes; give --hash hash.phash or hash.dhash"),
        ({"hash": "nope"}, "'nope' is no column of 64-bit hashes; give --hash hash.phash or hash.dhash"),
        ({"hash": "h.phash"}, "not there; run tarloom process --stages hash --name h first, or give --hash hash.phash"),
    ],
)
def test_what_cannot_be_compared_is_a_usage_error(folder, options, message):
    with pytest.raises(UsageError, match=message):
        mark_duplicates(DuplicatesConfig(path=str(folder), **options))
