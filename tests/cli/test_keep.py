"""`tarloom curate --keep-if`: a curated copy from the command line."""

import json
import subprocess
import sys

import pytest

import tarloom
from tests.process.keep.datasets import some_rows, write_dataset
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
