"""Ranks that torchrun starts: each sample once, as many steps for each, and the loop to copy goes on with fewer."""

import json
import subprocess
import sys
from itertools import chain

import pytest

import tarloom
from tests.read.feed.resume_contract import SHARDS, write_resumable
from tests.source_tree import ROOT

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
LOOP = ROOT / "read" / "read_with_torch.py"


def run(*command: object) -> list[str]:
    ended = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_resumable(tmp_path_factory.mktemp("shards"))


def test_two_ranks_see_every_sample_once_in_equally_many_steps(shards, tmp_path):
    run(*TORCHRUN, "-m", "tests.read.feed.ranks", shards, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert len(first["steps"]) == len(second["steps"]) == -(-sum(SHARDS) // 14)
    keys = [key for said in (first, second) for key in chain(*said["steps"])]
    assert sorted(keys) == [f"{row:09d}" for row in range(sum(SHARDS))]
    assert first["samples"] == second["samples"] == sum(SHARDS)
    assert first["states"] == second["states"]
    assert first["epoch"] == second["epoch"] == 1

    alone = tarloom.open(shards).select("json").to_torch(14, seed=3)
    alone.load_state_dict(first["states"][2])
    rest = [sorted(batch["__key__"]) for batch in alone]
    assert rest == [sorted(one + two) for one, two in zip(first["steps"][3:], second["steps"][3:], strict=True)]


def test_the_loop_to_copy_goes_on_with_one_process_where_two_were_stopped(shards, tmp_path):
    options = ("--train", "--path", shards, "--member", "png", "--checkpoint", tmp_path / "last.pt")
    said = run(*TORCHRUN, LOOP, *options, "--batch-size", 8, "--save-every", 2, "--epochs", 1)
    assert [line.partition(":")[0] for line in said] == [
        "epoch 0, 32 samples",
        "epoch 0, 64 samples",
        "epoch 1, 0 samples",
    ]
    said = run(sys.executable, LOOP, *options, "--batch-size", 16, "--save-every", 5, "--epochs", 2)
    assert [line.partition(":")[0] for line in said] == ["epoch 1, 80 samples", "epoch 2, 0 samples"]
