"""Captions by the shipped model in a real vLLM engine, checked against what the scenes show."""

import json
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from source_data.scenes import HELD_OUT_SEEDS, scene
from tarloom.engines.local import LocalEngine
from tarloom.errors import UsageError
from tarloom.process.caption.stage import CaptionStage
from tarloom.process.config import ProcessConfig
from tarloom.process.job import ProcessJob
from tests.process.shards import CAPTIONER, CLIP, ROOT, encoded, scene_sample, scene_shards, sidecars, write_shard

SHARDS, ROWS = 2, 60


@pytest.fixture(scope="module")
def captioned(tmp_path_factory):
    """Shards captioned by the program, as a user would, and what it said. "formats" has one scene in many guises."""
    folder = scene_shards(tmp_path_factory.mktemp("captioned") / "shards", shards=SHARDS, rows=ROWS)
    write_shard(folder / "formats.tar", guises())
    program = [sys.executable, str(ROOT / "process/caption_with_vllm.py"), "--json", "--batch-size", "32"]
    run = subprocess.run(
        [*program, "--path", str(folder), "--model", str(CAPTIONER)], capture_output=True, text=True, timeout=800
    )
    assert run.returncode == 0, run.stderr
    return folder, run


def guises():
    picture, _ = scene(HELD_OUT_SEEDS)
    yield "palette", {"png": encoded(picture.convert("P"), "PNG")}
    yield "alpha", {"webp": encoded(picture.convert("RGBA"), "WEBP")}
    yield "large", {"jpg": encoded(picture.resize((1600, 1600)))}
    yield "twice", {"txt": b"no", "png": encoded(picture, "PNG"), "jpg": encoded(picture)}


def rows_of(folder, pattern):
    return [row for path in sorted(folder.glob(pattern)) for row in pq.read_table(path).to_pylist()]


def test_captions_say_what_the_scenes_show(captioned):
    rows = [row for row in rows_of(captioned[0], "0*.caption.parquet") if row["status"] == "success"]
    exact = [row["text"] == scene(HELD_OUT_SEEDS + int(row["__key__"]))[1] for row in rows]
    assert len(rows) == SHARDS * ROWS - 3
    assert sum(exact) / len(exact) >= 0.95


def test_every_row_has_a_caption_or_a_named_error(captioned):
    rows = rows_of(captioned[0], "0*.caption.parquet")
    assert [row["__key__"] for row in rows] == [f"{number:09d}" for number in range(SHARDS * ROWS)]
    lost = {row["__key__"]: row for row in rows if row["status"] != "success"}
    assert [(key, row["status"], row["error"]) for key, row in lost.items()] == [
        ("000000001", "failed", "not_an_image"),
        ("000000002", "failed", "truncated"),
        ("000000003", "skipped", "no_picture"),
    ]
    assert all(row["text"] is None for row in lost.values())
    kept = [row for row in rows if row["status"] == "success"]
    assert all(row["finish_reason"] == "stop" and row["prompt_tokens"] > 0 for row in kept)
    assert all(row["output_tokens"] >= len(row["text"].split()) for row in kept)


def test_any_format_and_size_of_a_picture_gives_its_caption(captioned):
    rows = rows_of(captioned[0], "formats.caption.parquet")
    assert [row["__key__"] for row in rows] == ["palette", "alpha", "large", "twice"]
    assert {row["text"] for row in rows} == {scene(HELD_OUT_SEEDS)[1]}


def test_the_run_is_summed_up_and_speaks_only_of_itself(captioned):
    said = json.loads(captioned[1].stdout.splitlines()[-1])
    assert (said["rows"], said["successes"], said["shards"]) == (SHARDS * ROWS + 4, SHARDS * ROWS + 1, SHARDS + 1)
    noise = [line for line in captioned[1].stderr.splitlines() if "WARNING" in line or "set_num_threads" in line]
    assert noise == []


def test_a_second_run_needs_no_engine(captioned, tmp_path):
    folder = shutil.copytree(captioned[0], tmp_path / "again")
    job = ProcessJob(CaptionStage(model=str(CAPTIONER)), ProcessConfig(path=str(folder)), LocalEngine())
    job.prepare()
    assert all(report.skipped for report in job)
    assert sidecars(folder, "caption") == sidecars(captioned[0], "caption")


def test_a_prompt_of_another_wording_is_another_stage(captioned):
    stage = CaptionStage(model=str(CAPTIONER), prompt="What is this?")
    with pytest.raises(UsageError, match=r"prompt 'Describe the image.' \(now 'What is this\?'\)"):
        ProcessJob(stage, ProcessConfig(path=str(captioned[0])), LocalEngine()).prepare()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "/no/such/model"}, "no such folder"),
        ({"model": str(ROOT / "tests")}, "no config.json"),
        ({"prompt": "  "}, "prompt is empty"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"temperature": -1.0}, "temperature"),
    ],
)
def test_wrong_options_end_before_an_engine_is_started(options, message):
    with pytest.raises(UsageError, match=message):
        CaptionStage(**{"model": str(CAPTIONER), **options}).check()


def test_a_model_that_sees_no_pictures_is_a_usage_error_in_one_line(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    write_shard(folder / "a.tar", [scene_sample(0)])
    run = subprocess.run(
        [sys.executable, str(ROOT / "process/caption_with_vllm.py"), "--path", str(folder), "--model", str(CLIP)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    assert sidecars(folder, "caption") == {}


@pytest.mark.slow
def test_what_an_engine_could_not_start_for_is_said_in_one_line(tmp_path):
    folder, model = tmp_path / "shards", shutil.copytree(CAPTIONER, tmp_path / "model")
    folder.mkdir()
    write_shard(folder / "a.tar", [scene_sample(0)])
    with (model / "model.safetensors").open("r+b") as weights:
        weights.truncate(900_000)
    run = subprocess.run(
        [sys.executable, str(ROOT / "process/caption_with_vllm.py"), "--path", str(folder), "--model", str(model)],
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert run.returncode == 2, run.stderr
    assert "SafetensorError: Error while deserializing header" in run.stderr
    assert "Traceback" not in run.stdout + run.stderr
