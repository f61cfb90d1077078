"""Readers run as users run them: they start what they need, stop it again, and say nothing beside their summary."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.read.sample_sets import digest_of, packed_samples
from tests.source_tree import ROOT

SCAN = """
import json, sys
from tarloom.read.readers import ScanJob
from tarloom.read.scan import ScanConfig
if __name__ == "__main__":
    job = ScanJob(sys.argv[1], ScanConfig(path=sys.argv[2], num_workers=2, digest=True))
    assert sum(tally.rows for tally in job) == job.total
    import ray
    print(json.dumps([job.summary().digest, ray.is_initialized()]))
"""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """As from a shell in the repository, with this interpreter's programs first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=600)


def test_ray_is_started_for_a_scan_and_stopped_after_it(packed, tmp_path):
    (tmp_path / "scan.py").write_text(SCAN)
    finished = run(sys.executable, tmp_path / "scan.py", "ray_data", packed)
    assert json.loads(finished.stdout) == [digest_of(packed_samples(2)), False]
    said = [line for line in finished.stderr.splitlines() if "instead of /dev/shm" not in line]
    assert said == []  # but what Ray says where a machine has little shared memory


@pytest.mark.parametrize(
    "launcher", ["spark-submit", pytest.param(sys.executable, id="python", marks=pytest.mark.slow)]
)
def test_spark_reads_through_either_launcher(packed, launcher):
    finished = run(launcher, "read/read_with_spark.py", "--path", packed, "--digest", "--json")
    assert json.loads(finished.stdout.splitlines()[-1])["digest"] == digest_of(packed_samples(2))
    if launcher == sys.executable:
        ours = [line for line in finished.stderr.splitlines() if not line.startswith("reading with spark: ")]
        assert ours == ["WARNING: Using incubator modules: jdk.incubator.vector"]
    assert "Traceback" not in finished.stderr


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["ray_data", "spark"])
def test_a_sample_that_ends_a_scan_in_a_worker_is_one_line_without_a_traceback(pictured, reader):
    program = [sys.executable, "-m", "tarloom.cli", "read", "--reader", reader, "--path", str(pictured)]
    ended = subprocess.run(
        [*program, "--select", "png", "--decode", "rgb"], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    *said, last = ended.stderr.splitlines()
    assert re.match(rf"tarloom read: error: {pictured}/.*\.tar: .*: not_an_image: .* on_error skip or row$", last)
    usual = ("WARNING: Using incubator modules", "spark: ", "reading with ")
    assert [line for line in said if not line.startswith(usual) and "instead of /dev/shm" not in line] == []


def test_an_interrupted_torch_reader_says_one_line_and_leaves_no_worker(packed):
    """Ctrl-C reaches a whole process group: the workers, which are still loading torch, are in it."""
    program = [sys.executable, "read/read_with_torch.py", "--path", packed, "--num-workers", "2"]
    reading = subprocess.Popen(program, cwd=ROOT, stderr=subprocess.PIPE, text=True, process_group=0)
    children = Path(f"/proc/{reading.pid}/task/{reading.pid}/children")
    while len(children.read_text().split()) < 3:  # two, and what cleans up after them
        time.sleep(0.01)
    time.sleep(0.5)
    os.killpg(reading.pid, signal.SIGINT)
    _, said = reading.communicate(timeout=240)  # comes back when no process writes there any more
    assert reading.returncode == 130
    assert said == "read_with_torch.py: interrupted; nothing is left half-done: run the same command again\n"
