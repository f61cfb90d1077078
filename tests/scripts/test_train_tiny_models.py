"""The tiny models learn from shards, and a kill in the middle of their training makes no difference."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from safetensors import safe_open

import tarloom
from scripts.tiny_models.logs import Log, digest
from scripts.tiny_models.sizes import SHORT
from tests.source_tree import ROOT

SCRIPT = ROOT / "scripts" / "train_tiny_models.py"


def run(*options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, options)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=one_thread)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What the short training leaves."""
    output = tmp_path_factory.mktemp("tiny") / "out"
    ended = run("--output", output, "--short")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return output


def log_of(output: Path, name: str) -> Log:
    return Log.read(output / "logs" / name / "log.jsonl")


@pytest.mark.parametrize(("name", "falls_to"), [("captioner", 0.5), ("clip", 0.85)])
def test_the_loss_falls(trained, name, falls_to):
    log = log_of(trained, name)
    assert log.end < falls_to * log.begin


def test_steps_that_are_done_again_after_the_kill_have_the_same_samples_and_losses(trained):
    log = log_of(trained, "captioner")
    killed, resumed = ([step.step for step in steps] for steps in log.processes)
    saved = SHORT.die_at - SHORT.die_at % SHORT.save_every
    assert killed == list(range(1, SHORT.die_at + 1))
    assert resumed == list(range(saved + 1, SHORT.captioner_steps + 1))
    assert log.repeated() == (SHORT.die_at - saved, 0)


def test_the_killed_and_the_resumed_training_see_what_one_feed_yields_that_is_never_stopped(trained):
    log = log_of(trained, "captioner")
    seen = {step.step: step.samples for process in log.processes for step in process}
    feed = tarloom.open(trained / "shards").to_numpy(SHORT.batch_size, seed=1, columns=("txt",), drop_last=True)
    epochs = SHORT.captioner_steps // len(feed) + 1
    yielded = [digest(batch["__key__"]) for _ in range(epochs) for batch in feed]
    assert epochs > 1
    assert list(seen.values()) == yielded[: SHORT.captioner_steps]


@pytest.mark.parametrize("name", ["captioner", "clip"])
def test_the_models_are_of_the_shipped_ones_shape(trained, name):
    assert shape_of(trained / name) == shape_of(ROOT / "source_data/models" / name)


def shape_of(model: Path) -> dict[str, tuple[list[int], str]]:
    with safe_open(model / "model.safetensors", framework="np") as weights:
        parts = {key: weights.get_slice(key) for key in weights.keys()}  # noqa: SIM118
        return {key: (part.get_shape(), part.get_dtype()) for key, part in parts.items()}


def test_the_picture_shows_both_losses_and_the_kill(trained):
    picture = ElementTree.parse(trained / "loss.svg")
    said = [element.text for element in picture.iter() if element.tag.endswith("text")]
    assert {"captioner: loss", "clip: loss"} <= set(said)
    assert f"killed after step {SHORT.die_at}, goes on from step 33" in said


def test_an_output_that_is_there_is_not_touched(tmp_path):
    ended = run("--output", tmp_path)
    assert ended.returncode == 2
    assert "is there already" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_log_whose_repeated_steps_differ_says_so(tmp_path):
    lines = [(1, 1, 0.5), (1, 2, 0.4), (1, 3, 0.3), (2, 2, 0.4), (2, 3, 0.2), (2, 4, 0.1)]
    keys = ("process", "step", "loss")
    text = "".join(
        json.dumps({**dict(zip(keys, line, strict=True)), "epoch": 0, "samples": ""}) + "\n" for line in lines
    )
    (tmp_path / "log.jsonl").write_text(text)
    assert Log.read(tmp_path / "log.jsonl").repeated() == (2, 1)
