"""`tarloom curate --keep-if`: a curated copy from the command line."""

import json
import subprocess
import sys

import pytest

import tarloom
from tests.process.keep.datasets import Said, some_rows, write_dataset
from tests.source_tree import ROOT

AGREES = "caption.text = txt"


@pytest.fixture
def made(tmp_path):
    rows = some_rows(30)
    return write_dataset(tmp_path / "in", [rows[:20], rows[20:]])


def curate(*words):
    command = [sys.executable, "-m", "tarloom.cli", "curate", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_some_samples_become_a_dataset_of_their_own(made, tmp_path):
    run = curate(made, "--keep-if", AGREES, "--output", tmp_path / "out", "--number-sample-per-shard", "4", "--json")
    assert run.returncode == 0, run.stderr
    told, count = json.loads(run.stdout.splitlines()[-1]), tarloom.open(made).count(AGREES)
    assert (told["samples"], told["kept"], told["shards"]) == (len(tarloom.open(made)), count, -(-count // 4))
    assert run.stdout.startswith(f"Kept {count} of {told['samples']} samples")
    assert len(tarloom.open(tmp_path / "out")) == count


def test_an_answer_of_samples_becomes_a_dataset_of_them_alone_though_shards_share_keys(tmp_path):
    first, second = ([Said(key=key, caption="x", text="x", score=score) for key in "abc"] for score in (0.2, 0.8))
    write_dataset(tmp_path / "in", [first, second])
    answer = ["--where", "__key__ < 'c'", "--order-by", "clip_score.score DESC", "--limit", "2"]
    run = curate(tmp_path / "in", *answer, "--to-shards", "--output", tmp_path / "out", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1])["kept"] == 2
    kept = tarloom.open(tmp_path / "out").table("clip_score.score")
    assert kept.to_pydict() == {"__key__": ["a", "b"], "clip_score.score": [0.8, 0.8]}


def test_an_answer_of_no_samples_is_nothing_to_keep(made, tmp_path):
    run = curate(made, "--where", "width > 33", "--to-shards", "--output", tmp_path / "out")
    assert run.returncode == 2
    assert "the answer has none of 26 samples; nothing to keep" in run.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--keep-if", "width > 33"], "is true of none of 26 samples"),
        (["--keep-if", "wdith > 33"], "no column 'wdith'"),
        (["--keep-if", ""], "keep_if is empty"),
    ],
)
def test_a_condition_that_cannot_work_is_one_clear_line(made, tmp_path, words, told):
    run = curate(made, *words, "--output", tmp_path / "out")
    assert run.returncode == 2
    assert told in run.stderr
    assert run.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
