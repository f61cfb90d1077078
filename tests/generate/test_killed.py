"""Generation that is killed leaves nothing broken, and goes on to the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tarloom.format.verify.dataset import verify
from tarloom.process.paint.stage import PaintStage
from tests.generate.making import PAINTER, ROWS, contents, generate
from tests.source_tree import ROOT

SECONDS = 250
STEPS, BATCH = 12, 2
"""Slow enough to be killed in its middle."""


@pytest.fixture(scope="module")
def whole(table, tmp_path_factory, ray_session):
    """What an uninterrupted run makes."""
    folder = tmp_path_factory.mktemp("whole") / "set"
    generate(table, folder, {"paint": PaintStage(model=PAINTER, steps=STEPS, batch_size=BATCH)})
    return contents(folder)


@contextmanager
def started(table, output, engine: str) -> "Iterator[subprocess.Popen[bytes]]":
    """The program; what is left of it is killed in the end. What it says is in a file beside its output."""
    words = ["--prompts", table.prompts, "--details", *table.details, "--template", table.template, "--key-col", "name"]
    words += ["--output", str(output), "--number-sample-per-shard", "10", "--engine", engine]
    words += ["--paint.model", PAINTER, "--paint.steps", str(STEPS), "--paint.batch-size", str(BATCH)]
    command = [sys.executable, str(ROOT / "create" / "generate_with_ray.py"), *words]
    with said_of(output).open("ab") as said:
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=said, stderr=said)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def said_of(output):
    return output.with_name("said")


def killed_after(table, output, engine: str, files: int, dice: random.Random) -> None:
    """Kill all of a run some moment after so many files lie there."""
    with started(table, output, engine) as process:
        deadline = time.monotonic() + SECONDS
        while sum(len(names) for _, _, names in os.walk(output)) < files:  # folders may go meanwhile
            assert process.poll() is None, said_of(output).read_text()
            assert time.monotonic() < deadline, said_of(output).read_text()
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.2))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("engine", "moments"),
    [
        pytest.param("local", (3, 7), marks=pytest.mark.slow),
        pytest.param("ray", (5,), marks=pytest.mark.long),
        pytest.param("ray-data", (5,), marks=pytest.mark.long),
    ],
)
def test_a_run_that_is_killed_at_any_moment_goes_on_to_the_same_bytes(table, whole, tmp_path, engine, moments):
    dice, output = random.Random(engine), tmp_path / "set"
    for files in moments:
        killed_after(table, output, engine, files, dice)
        found = contents(output)
        finished = {name for name in found if not name.startswith("_tarloom/") and ".tmp" not in name}
        assert all(found[name] == whole[name] for name in finished)
        if done := {name.removesuffix("_stats.json") for name in finished if name.endswith("_stats.json")}:
            assert [report.findings for report in verify(str(output)) if report.shard in done and report.findings] == []
    with started(table, output, engine) as process:
        assert process.wait(SECONDS) == 0, said_of(output).read_text()
    assert contents(output) == whole
    assert [finding for report in verify(str(output)) for finding in report.findings] == []
    assert sum(value["count"] for name, value in whole.items() if name.endswith("_stats.json")) == ROWS
