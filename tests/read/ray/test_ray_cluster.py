"""Ray on several nodes keeps the readers' contract."""

import os
import subprocess
import sys

import pytest

from tests.source_tree import ROOT


@pytest.mark.slow
def test_a_cluster_of_three_nodes_passes_the_same_suite():
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
        "PYTHONPATH": str(ROOT)
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/read/ray/on_ray_cluster.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout[-8000:]
    assert "skipped" not in done.stdout.splitlines()[-1]
