"""Runs that are killed or interrupted at any moment go on to the bytes of an uninterrupted run.

benchmarks/kill_runs.py kills more of them: 50, with every engine, on disk and on S3.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tarloom.format.storage import open_storage
from tests.process.killing import KillRun, allowed, outcome
from tests.process.shards import CAPTIONER, CLIP, ROOT, scene_shards, sidecars

PROGRAMS = {
    "clip": [str(ROOT / "process/embed_with_clip.py"), "--model", str(CLIP), "--batch-size", "16"],
    "caption": [str(ROOT / "process/caption_with_vllm.py"), "--model", str(CAPTIONER), "--batch-size", "16"],
}


class KilledRuns:
    """Runs of one kind over shards of scenes, and what an uninterrupted run leaves."""

    def __init__(self, place: Path, kind: str, *, shards: int = 3, rows: int = 50) -> None:
        self._place, self.kind, self._rows = place, kind, shards * rows
        self._shards = scene_shards(place / "shards", shards=shards, rows=rows)

    def expected(self):
        run = self.run(str(self._shards), "local", workers=1)
        run.finish()
        return outcome(run.folder, self.kind)

    def copied(self, folder: str) -> str:
        for tar in self._shards.glob("*.tar"):
            open_storage(folder).write(tar.name, tar.read_bytes())
        return folder

    def run(self, folder: str, engine: str, *, workers: int) -> KillRun:
        log = self._place / f"log {len(list(self._place.glob('log*')))}"
        log.mkdir()
        return KillRun(folder=folder, kind=self.kind, engine=engine, workers=workers, rows=self._rows, log=log)


def assert_sound(run: KillRun, expected, kills) -> None:
    """It has left what an uninterrupted run leaves, and its stages were asked again about a batch a kill at most."""
    assert dict(outcome(run.folder, run.kind)) == dict(expected)
    assert all(rows <= allowed(run, kills) for rows in run.repeated().values()), run.repeated()


@pytest.fixture(scope="module")
def hashed(tmp_path_factory):
    runs = KilledRuns(tmp_path_factory.mktemp("hashed"), "hash")
    return runs, runs.expected()


@pytest.mark.parametrize(
    ("engine", "place", "victims"),
    [
        ("local", "disk", ["driver", "worker"]),
        ("local", "s3", ["driver"]),
        pytest.param("ray", "disk", ["driver", "worker"], marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_killed_goes_on_to_the_same_bytes(hashed, request, tmp_path, engine, place, victims):
    runs, expected = hashed
    folder = runs.copied(str(tmp_path / "killed") if place == "disk" else request.getfixturevalue("s3_folder"))
    run, dice = runs.run(folder, engine, workers=2), random.Random(f"{engine} {place}")
    kills = [killed for victim in victims if (killed := run.killed(victim, dice)) is not None]
    run.finish()
    assert_sound(run, expected, kills)


@pytest.fixture(scope="module", params=["embed and hash", "caption"])
def of_models(request, tmp_path_factory):
    runs = KilledRuns(tmp_path_factory.mktemp("models"), request.param)
    return runs, runs.expected()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.long)])
def test_a_run_of_models_that_is_killed_goes_on_to_the_same_bytes(of_models, tmp_path, engine):
    runs, expected = of_models
    folder = runs.copied(str(tmp_path / "killed"))
    run, dice = runs.run(folder, engine, workers=1 if runs.kind == "caption" else 2), random.Random(runs.kind)
    kills = [killed for victim in ("driver", "worker") if (killed := run.killed(victim, dice)) is not None]
    run.finish()
    assert_sound(run, expected, kills)


@pytest.mark.parametrize(
    ("stage", "count", "options"),
    [
        pytest.param("clip", 60, ["--num-workers", "2"], id="clip"),
        pytest.param("caption", 12, [], id="caption", marks=[pytest.mark.slow, pytest.mark.long]),
    ],
)
def test_an_interrupted_run_says_how_to_go_on_and_does(tmp_path, stage, count, options):
    """So many shards that a run is not over before a test that gets no CPU for a while interrupts it."""
    shards = scene_shards(tmp_path / "shards", shards=count, rows=60)
    process = start(stage, shards, *options)
    while not sidecars(shards, stage) and process.poll() is None:
        time.sleep(0.005)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130, said
    assert "run the same command again" in said
    assert "Traceback" not in said
    assert {pq.read_table(shards / name).num_rows for name in sidecars(shards, stage)} == {60}
    finished = start(stage, shards)
    _, said = finished.communicate(timeout=600)
    assert finished.returncode == 0, said
    assert len(sidecars(shards, stage)) == count


def start(stage: str, folder: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *PROGRAMS[stage], "--path", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
