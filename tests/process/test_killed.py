"""Runs that are killed or interrupted at any moment go on to the bytes of an uninterrupted run."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.process.shards import CAPTIONER, CLIP, ROOT, scene_shards, sidecars

PROGRAMS = {
    "clip": [str(ROOT / "process/embed_with_clip.py"), "--model", str(CLIP), "--batch-size", "16"],
    "caption": [str(ROOT / "process/caption_with_vllm.py"), "--model", str(CAPTIONER), "--batch-size", "16"],
}


def start(stage: str, folder: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *PROGRAMS[stage], "--path", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(stage: str, folder: Path, *options: str) -> None:
    process = start(stage, folder, *options)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said


def stop_at(process: "subprocess.Popen[str]", folder: Path, stage: str, *, done: int, delay: float, how: int) -> int:
    """Stop a run once `done` sidecars are there and a moment has passed; its exit code. It may be through by then."""
    while len(sidecars(folder, stage)) < done and process.poll() is None:
        time.sleep(0.005)
    time.sleep(delay)
    if process.poll() is None:
        os.killpg(process.pid, how)
    process.communicate(timeout=60)
    return process.returncode


def assert_whole(folder: Path, stage: str, *, rows: int) -> None:
    for name in sidecars(folder, stage):
        assert pq.read_table(folder / name).num_rows == rows


@pytest.mark.parametrize("options", [[], ["--num-workers", "2"]], ids=["inline", "processes"])
def test_a_killed_embedding_run_continues_to_the_same_bytes(tmp_path, options):
    shards = scene_shards(tmp_path / "shards", shards=6, rows=60)
    whole = shutil.copytree(shards, tmp_path / "whole")
    finish("clip", whole)
    dice = random.Random(repr(options))
    for done in (0, 2, 4):
        how = dice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        stop_at(start("clip", shards, *options), shards, "clip", done=done, delay=dice.uniform(0, 0.2), how=how)
        assert_whole(shards, "clip", rows=60)
    finish("clip", shards, *options)
    assert sidecars(shards, "clip") == sidecars(whole, "clip")
    assert not list(shards.rglob(".tmp-*"))


@pytest.mark.parametrize(("stage", "options"), [("clip", ["--num-workers", "2"]), ("caption", [])])
def test_an_interrupted_run_says_how_to_go_on_and_does(tmp_path, stage, options):
    shards = scene_shards(tmp_path / "shards", shards=12, rows=60)
    process = start(stage, shards, *options)
    while not sidecars(shards, stage):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run the same command again" in said
    assert "Traceback" not in said
    assert_whole(shards, stage, rows=60)
    finish(stage, shards)
    assert len(sidecars(shards, stage)) == 12


def test_a_killed_captioning_run_continues_to_the_same_bytes_on_another_engine(tmp_path):
    shards = scene_shards(tmp_path / "shards", shards=8, rows=40)
    whole = shutil.copytree(shards, tmp_path / "whole")
    finish("caption", whole)
    for done, delay in ((0, 6.0), (1, 0.1), (3, 0.0)):  # while the model loads, and between and in the midst of shards
        stop_at(start("caption", shards), shards, "caption", done=done, delay=delay, how=signal.SIGKILL)
        assert_whole(shards, "caption", rows=40)
    assert len(sidecars(shards, "caption")) >= 3
    finish("caption", shards, "--engine", "ray")
    assert sidecars(shards, "caption") == sidecars(whole, "caption")
