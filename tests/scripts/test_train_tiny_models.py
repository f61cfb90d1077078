"""The tiny models learn from shards, and a kill in the middle of their training makes no difference."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from diffusers import DiffusionPipeline
from safetensors import safe_open

import tarloom
from scripts.tiny_models.logs import Log, digest
from scripts.tiny_models.rewriter import PLAIN, attributes
from scripts.tiny_models.sizes import SHORT
from source_data.scenes import HELD_OUT_SEEDS, describe
from tests.source_tree import ROOT

SCRIPT = ROOT / "scripts" / "train_tiny_models.py"
STEPS, DIES_AT = SHORT.steps["captioner"], SHORT.dies_at("captioner")


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


@pytest.mark.parametrize(
    ("name", "falls_to"),
    [("captioner", 0.5), ("clip", 0.85), ("autoencoder", 0.9), ("painter", 0.85), ("rewriter", 0.6)],
)
def test_the_loss_falls(trained, name, falls_to):
    log = log_of(trained, name)
    assert log.end < falls_to * log.begin


def test_steps_that_are_done_again_after_the_kill_have_the_same_samples_and_losses(trained):
    log = log_of(trained, "captioner")
    killed, resumed = ([step.step for step in steps] for steps in log.processes)
    saved = DIES_AT - DIES_AT % SHORT.save_every
    assert killed == list(range(1, DIES_AT + 1))
    assert resumed == list(range(saved + 1, STEPS + 1))
    assert log.repeated() == (DIES_AT - saved, 0)


def test_the_killed_and_the_resumed_training_see_what_one_feed_yields_that_is_never_stopped(trained):
    log = log_of(trained, "captioner")
    seen = {step.step: step.samples for process in log.processes for step in process}
    feed = tarloom.open(trained / "shards").to_numpy(SHORT.batch_size, seed=1, columns=("txt",), drop_last=True)
    epochs = STEPS // len(feed) + 1
    yielded = [digest(batch["__key__"]) for _ in range(epochs) for batch in feed]
    assert epochs > 1
    assert list(seen.values()) == yielded[:STEPS]


@pytest.mark.parametrize("name", ["captioner", "clip", "painter", "rewriter"])
def test_the_models_are_of_the_shipped_ones_shape(trained, name):
    made, shipped = trained / name, ROOT / "source_data/models" / name
    assert files_of(made) == files_of(shipped)
    for weights in files_of(made):
        if weights.suffix == ".safetensors":
            assert shape_of(made / weights) == shape_of(shipped / weights)


def files_of(model: Path) -> set[Path]:
    return {path.relative_to(model) for path in model.rglob("*") if path.is_file()}


def shape_of(weights: Path) -> dict[str, tuple[list[int], str]]:
    with safe_open(weights, framework="np") as file:
        parts = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
        return {key: (part.get_shape(), part.get_dtype()) for key, part in parts.items()}


def test_the_painter_that_was_trained_paints(trained):
    pipeline = DiffusionPipeline.from_pretrained(trained / "painter")
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a red star on a blue background", num_inference_steps=1).images[0]
    assert picture.size == (32, 32)


@pytest.mark.parametrize("seed", range(HELD_OUT_SEEDS, HELD_OUT_SEEDS + 20))
def test_what_the_rewriter_is_asked_tells_the_whole_scene(seed):
    scene = describe(seed)
    said = dict(pair.split(": ") for pair in attributes(scene, random.Random(seed)).split("; "))
    named = {said.pop("background", PLAIN), said.pop("relation", "")}
    assert named == {scene.background, scene.relation}
    things = {f"{said['colour']} {said['shape']}"} if "shape" in said else set(said.values())
    assert things == {f"{thing.colour} {thing.shape}" for thing in scene.things}


def test_the_picture_shows_all_losses_and_the_kill(trained):
    picture = ElementTree.parse(trained / "loss.svg")
    said = [element.text for element in picture.iter() if element.tag.endswith("text")]
    assert {f"{name}: loss" for name in SHORT.steps} <= set(said)
    assert f"killed after step {DIES_AT}, goes on from step 33" in said


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
