"""A Ray cluster that changes during a run: nodes that come are used, the work of nodes that go is done by others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PRELUDE = """
import subprocess, sys
import ray
from ray.cluster_utils import Cluster
from tarloom.engines.ray import RayEngine
from tests.engines.workers import Nodes

SMALL = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
"""

GROWS = """
if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args=SMALL | {"num_cpus": int(sys.argv[1])})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    engine = RayEngine(2)
    joins = "sleep 3; exec ray start --block --num-cpus 2 --object-store-memory 80000000 --address " + cluster.address
    node = subprocess.Popen(["bash", "-c", joins], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen = set()
    for outcome in engine.map(Nodes(), iter(range(100_000))):
        seen.add(outcome.result)
        if len(seen) == 2 - (sys.argv[1] == "0"):
            break
    engine.close()
    ray.shutdown()
    node.terminate()
    node.wait()
    cluster.shutdown()
    print(len(seen))
"""

SHRINKS = """
if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args=SMALL)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    passing = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    cluster.wait_for_nodes()
    engine = RayEngine(2)
    nodes, done, given, left = set(), [], [], False

    def items():
        while not left:  # however late the other node has its worker
            given.append(len(given))
            yield given[-1]
        for number in range(len(given), len(given) + 120):
            given.append(number)
            yield number

    for outcome in engine.map(Nodes(), items()):
        assert outcome.error is None, outcome
        nodes.add(outcome.result)
        done.append(outcome.item)
        if len(nodes) == 2 and not left:
            cluster.remove_node(passing, allow_graceful=False)
            left = True
    engine.close()
    ray.shutdown()
    cluster.shutdown()
    assert sorted(done) == given, "an item is missing, or came twice"
    print(left)
"""

NEVER = """
if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args=SMALL | {"num_cpus": 0})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        list(RayEngine(1, grow_seconds=2).map(Nodes(), range(3)))
    finally:
        ray.shutdown()
        cluster.shutdown()
"""


def run(tmp_path: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: a cluster of several nodes cannot be had beside the tests' one."""
    (tmp_path / "program.py").write_text(PRELUDE + program)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment |= {"PYTHONPATH": str(ROOT), "PATH": path}
    command = [sys.executable, str(tmp_path / "program.py"), *words]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_workers_begin_where_there_is_room_and_use_a_node_that_is_added(tmp_path):
    done = run(tmp_path, GROWS, "1")
    assert done.stdout.split()[-1:] == ["2"], done.stderr


@pytest.mark.slow
def test_a_cluster_without_any_room_is_given_time_to_grow(tmp_path):
    done = run(tmp_path, GROWS, "0")
    assert done.stdout.split()[-1:] == ["1"], done.stderr
    assert "waiting for it to grow" in done.stderr


@pytest.mark.slow
def test_a_cluster_that_never_has_room_ends_the_run(tmp_path):
    done = run(tmp_path, NEVER)
    assert "EngineError: no node of the Ray cluster has 1 CPUs" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_what_a_lost_node_was_doing_is_done_by_others(tmp_path):
    done = run(tmp_path, SHRINKS)
    assert done.stdout.split()[-1:] == ["True"], done.stderr
