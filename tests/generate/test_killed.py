"""Generation that is killed leaves nothing broken, and goes on to the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tarloom.format.verify.dataset import verify
from tests.generate.making import ROWS, contents, tables
from tests.source_tree import ROOT

SECONDS = 180
MODEL = ROOT / "source_data" / "models" / "painter"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def whole(table, tmp_path_factory):
    """What an uninterrupted run of the program makes."""
    folder = tmp_path_factory.mktemp("whole") / "set"
    with started(table, folder, "local") as process:
        assert process.wait(SECONDS) == 0
    return contents(folder)


def started(table, output, engine: str) -> "subprocess.Popen[bytes]":
    """The program in a session of its own; slow enough to be killed in its middle."""
    words = ["--prompts", table.prompts, "--details", *table.details, "--template", table.template, "--key-col", "name"]
    words += ["--output", str(output), "--number-sample-per-shard", "10", "--engine", engine]
    words += ["--paint.model", str(MODEL), "--paint.steps", "12", "--paint.batch-size", "2"]
    command = [sys.executable, str(ROOT / "create" / "generate_with_ray.py"), *words]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, **quiet)


def killed_after(table, output, engine: str, files: int, dice: random.Random) -> None:
    """Kill all of a run some moment after so many files lie there."""
    with started(table, output, engine) as process:
        deadline = time.monotonic() + SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if output.is_dir() and sum(path.is_file() for path in output.rglob("*")) >= files:
                time.sleep(dice.uniform(0, 0.2))
                break
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "engine", ["local", pytest.param("ray", marks=pytest.mark.slow), pytest.param("ray-data", marks=pytest.mark.slow)]
)
def test_a_run_that_is_killed_at_any_moment_goes_on_to_the_same_bytes(table, whole, tmp_path, engine):
    dice, output = random.Random(engine), tmp_path / "set"
    for files in (3, 7):
        killed_after(table, output, engine, files, dice)
        found = contents(output)
        finished = {name for name in found if not name.startswith("_tarloom/") and ".tmp" not in name}
        assert all(found[name] == whole[name] for name in finished)
        if done := {name.removesuffix("_stats.json") for name in finished if name.endswith("_stats.json")}:
            assert [report.findings for report in verify(str(output)) if report.shard in done and report.findings] == []
    with started(table, output, engine) as process:
        assert process.wait(SECONDS) == 0
    assert contents(output) == whole
    assert [finding for report in verify(str(output)) for finding in report.findings] == []
    assert sum(value["count"] for name, value in whole.items() if name.endswith("_stats.json")) == ROWS
