"""A dataset as a plain folder: every sample's picture is a file, every input row is in the parquet, nothing is half."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import pytest

from tarloom.errors import ShardError, StaleSidecar, UsageError
from tarloom.format.storage import open_storage
from tarloom.generate.folder import MARKS, FolderSummary, _Writer, write_folder
from tests.create.helpers import contents
from tests.process.keep.datasets import Said, some_rows, write_dataset
from tests.source_tree import ROOT

STAGES = ("caption", "clip_score")


@pytest.fixture
def made(tmp_path) -> Path:
    rows = some_rows(30)
    return write_dataset(tmp_path / "in", [rows[:20], rows[20:]])


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def expected(rows: list[Said]) -> dict[str, bytes]:
    return {f"{row.key}.png": row.key.encode() * 9 for row in rows if not row.failed}


def test_pictures_are_files_and_every_row_is_in_the_table(made, tmp_path):
    summary = write_folder(str(made), str(tmp_path / "out"), stages=STAGES)
    rows = some_rows(30)
    assert pictures(tmp_path / "out") == expected(rows)
    table = pq.read_table(tmp_path / "out" / "metadata.parquet")
    found = table.select(["key", "caption", "status", "file_name", "caption.text", "clip_score.score"]).to_pylist()
    assert found == [
        {
            "key": row.key,
            "caption": row.caption,
            "status": "failed_to_generate" if row.failed else "success",
            "file_name": None if row.failed else f"{row.key}.png",
            "caption.text": None if row.failed else row.text,
            "clip_score.score": None if row.failed else row.score,
        }
        for row in rows
    ]
    assert summary == FolderSummary(folder=str(tmp_path / "out"), pictures=26, rows=30, written=26)
    others = {path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".png"}
    assert others == {"_tarloom", "metadata.parquet"}


def test_a_folder_that_is_whole_is_left_alone(made, tmp_path):
    write_folder(str(made), str(tmp_path / "out"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert write_folder(str(made), str(tmp_path / "out")).written == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_other_stages_make_the_table_anew_and_no_picture(made, tmp_path):
    write_folder(str(made), str(tmp_path / "out"))
    assert write_folder(str(made), str(tmp_path / "out"), stages=STAGES).written == 0
    assert "caption.text" in pq.read_schema(tmp_path / "out" / "metadata.parquet").names


def test_a_shard_that_was_made_anew_takes_the_place_of_the_old_one(made, tmp_path):
    write_folder(str(made), str(tmp_path / "out"))
    rows = [Said(key="other", caption="a star", text="a star"), *some_rows(30)[22:]]
    write_dataset(tmp_path / "new", [rows])
    for name in ("00000.tar", "00000.parquet", "00000.caption.parquet", "00000.clip_score.parquet"):
        os.replace(tmp_path / "new" / name, made / name.replace("00000", "00001"))
    summary = write_folder(str(made), str(tmp_path / "out"))
    assert pictures(tmp_path / "out") == expected(some_rows(30)[:20] + rows)
    assert summary.written == len(expected(rows))
    for path in made.glob("00000*"):
        path.unlink()
    assert write_folder(str(made), str(tmp_path / "out")).written == 0
    assert pictures(tmp_path / "out") == expected(rows)


def test_what_a_stage_said_of_another_version_of_a_shard_is_refused(made, tmp_path):
    rows = some_rows(30)[:20]
    write_dataset(tmp_path / "new", [[*rows[:-1], Said(key=rows[-1].key, caption="new", text="new")]])
    for name in ("00000.tar", "00000.parquet"):
        (made / name).write_bytes((tmp_path / "new" / name).read_bytes())
    with pytest.raises(StaleSidecar, match=r"00000\.caption\.parquet: made for .*run the stage again"):
        write_folder(str(made), str(tmp_path / "out"), stages=STAGES)
    assert not (tmp_path / "out/metadata.parquet").exists()


def test_while_a_shards_pictures_are_added_there_is_no_table(made, tmp_path):
    (made / "_tarloom").mkdir(exist_ok=True)
    (made / "_tarloom" / "plan.json").write_text("{}")
    (made / "00000_stats.json").write_text("{}")
    write_folder(str(made), str(tmp_path / "out"))
    (made / "00001_stats.json").write_text("{}")
    with pytest.raises(KeyboardInterrupt), patch.object(_Writer, "_write_table", side_effect=KeyboardInterrupt):
        write_folder(str(made), str(tmp_path / "out"))
    assert not (tmp_path / "out/metadata.parquet").exists()
    assert write_folder(str(made), str(tmp_path / "out")).rows == 30


def test_only_finished_shards_are_taken(made, tmp_path):
    (made / "_tarloom").mkdir(exist_ok=True)
    (made / "_tarloom" / "plan.json").write_text("{}")
    (made / "00000_stats.json").write_text("{}")
    assert write_folder(str(made), str(tmp_path / "out")).rows == 20
    (made / "00001_stats.json").write_text("{}")
    assert write_folder(str(made), str(tmp_path / "out")).rows == 30


def test_keys_with_folders_are_files_in_folders(tmp_path):
    write_dataset(tmp_path / "in", [[Said(key="a/b", caption="x", text="x")]])
    write_folder(str(tmp_path / "in"), str(tmp_path / "out"))
    assert (tmp_path / "out/a/b.png").read_bytes() == b"a/b" * 9


def test_pictures_of_shards_that_share_keys_are_not_overwritten(tmp_path):
    rows = [Said(key=key, caption="x", text="x") for key in "abcd"]
    write_dataset(tmp_path / "in", [rows[:2], rows[2:], [rows[3], rows[1]]])
    for _ in range(2):  # the second time by what the first has left
        with pytest.raises(ShardError, match=r"00002: shard 0000[01] has a picture [bd]\.png, too"):
            write_folder(str(tmp_path / "in"), str(tmp_path / "out"))
        assert pictures(tmp_path / "out") == expected(rows)
    assert not (tmp_path / "out/metadata.parquet").exists()


def test_names_whose_digests_are_equal_by_chance_are_different_files(made, tmp_path, monkeypatch):
    monkeypatch.setattr("tarloom.generate.folder._digests", lambda names: np.zeros(len(names), np.uint64))
    assert write_folder(str(made), str(tmp_path / "out")).pictures == 26


def test_a_folder_in_an_object_store_is_the_same(made, s3_folder, tmp_path):
    for out in (s3_folder, str(tmp_path / "out")):
        write_folder(str(made), out, stages=STAGES)
    store = open_storage(s3_folder)
    assert {entry.name: store.read(entry.name) for entry in store.list()} == contents(tmp_path / "out")


WRITE = """
import itertools, sys, time
from tarloom.format.storage.local import LocalStorage
from tarloom.generate.folder import write_folder

source, output, pictures = *sys.argv[1:3], int(sys.argv[3])
write, numbers = LocalStorage.write, itertools.count()

def write_until_told(self, name, data):
    if name.endswith(".png") and next(numbers) == pictures:
        print("now", flush=True)
        time.sleep(600)
    write(self, name, data)

LocalStorage.write = write_until_told
write_folder(source, output)
"""
"""One picture is never written: whoever is told of it has all the time to kill."""


def test_a_run_that_is_killed_goes_on_to_the_same_files(tmp_path):
    rows = some_rows(300)
    made = write_dataset(tmp_path / "in", [rows[first : first + 50] for first in range(0, 300, 50)])
    write_folder(str(made), str(tmp_path / "whole"))
    dice = random.Random(3)
    for wanted in (30, 120):
        command = [sys.executable, "-c", WRITE, made, tmp_path / "out", str(wanted)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"now\n"
            time.sleep(dice.random() / 100)
            process.kill()
        assert not (tmp_path / "out/metadata.parquet").exists()
    summary = write_folder(str(made), str(tmp_path / "out"))
    assert 0 < summary.written < summary.pictures
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_folder_with_other_things_in_it_is_refused(made, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metadata.parquet").write_bytes(b"mine")
    with pytest.raises(UsageError, match="something else in it"):
        write_folder(str(made), str(tmp_path / "out"))
    with pytest.raises(UsageError, match="something else in it"):
        write_folder(str(made), str(made))
    assert (tmp_path / "out" / "metadata.parquet").read_bytes() == b"mine"


@pytest.mark.parametrize("key", ["../a", "a/../../b", "_tarloom/plan"])
def test_a_key_that_leads_out_of_the_folder_is_refused(tmp_path, key):
    write_dataset(tmp_path / "in", [[Said(key=key, caption="x", text="x")]])
    with pytest.raises((ShardError, UsageError)):
        write_folder(str(tmp_path / "in"), str(tmp_path / "below/out"))
    assert not list(tmp_path.glob("*.png")) + list(tmp_path.glob("below/*.png"))


@pytest.mark.parametrize("name", ["../mine.png", "/{tmp}/mine.png", "_tarloom/plan.json"])
def test_a_folder_that_somebody_else_made_has_no_file_elsewhere_deleted(made, tmp_path, name):
    write_folder(str(made), str(tmp_path / "out"))
    (tmp_path / "mine.png").write_bytes(b"mine")
    mark = next(path for path in (tmp_path / "out" / MARKS).iterdir())
    mark.write_text(json.dumps(["another version", name.replace("/{tmp}", str(tmp_path))]))
    with pytest.raises(UsageError, match="no picture of the folder"):
        write_folder(str(made), str(tmp_path / "out"))
    assert (tmp_path / "mine.png").read_bytes() == b"mine"
