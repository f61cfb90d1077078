"""The readers' contract on a Ray cluster of three nodes: run by test_ray_cluster.py in a process of its own, since a
process can be in one Ray session only."""

import time

import pyarrow as pa
import pytest
import ray
import ray.data
from ray.cluster_utils import Cluster

import tarloom
from tarloom.read.ray.sidecars import SidecarSink
from tarloom.read.ray.sink import TarSink
from tests.read.sample_sets import digest_of, packed_samples
from tests.read.test_readers import RAY_COPIES_ITS_SETTINGS, TestRayActor, TestRayData, TestRayDataWebdataset

__all__ = ["TestRayActor", "TestRayData", "TestRayDataWebdataset"]

NODES = 3
SMALL = {"num_cpus": 1, "object_store_memory": 100 << 20}
pytestmark = RAY_COPIES_ITS_SETTINGS


@pytest.fixture(scope="module", autouse=True)
def ray_session():
    """In place of the session on one node that other tests share."""
    cluster = Cluster(initialize_head=True, head_node_args=SMALL | {"include_dashboard": False})
    for _ in range(NODES - 1):
        cluster.add_node(**SMALL)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(autouse=True)
def _quiet():
    ray.data.DataContext.get_current().enable_progress_bars = False


def where(batch: pa.Table) -> pa.Table:
    """Rows and the node that had them; slow enough that no node can have them all."""
    time.sleep(0.5)
    node = ray.get_runtime_context().get_node_id()
    return batch.append_column("node", pa.array([node] * len(batch), pa.string()))


def test_nodes_share_the_work_and_write_what_one_would(packed, tmp_path):
    ours = tarloom.open(packed).select("jpg", "txt", "json")
    rows = ours.to_ray(url=True, task_bytes=1 << 14).map_batches(where, batch_format="pyarrow", batch_size=None)
    rows.write_datasink(TarSink(tmp_path / "made"))
    made = tarloom.open(tmp_path / "made")
    assert len(set(made.table("node")["node"].to_pylist())) == NODES
    assert digest_of((s["__key__"], {m: s[m] for m in ("jpg", "txt", "json")}) for s in made) == digest_of(
        packed_samples(2)
    )
    again = tarloom.open(tmp_path / "made").select("txt").to_ray(url=True, task_bytes=1 << 14)
    again.map_batches(where, batch_format="pyarrow", batch_size=7).write_datasink(
        SidecarSink(made, "place", columns=["node"], fingerprint={})
    )
    placed = tarloom.open(tmp_path / "made").table("place.node")
    assert len(placed) == len(packed_samples(2))
    assert placed["place.node"].null_count == 0
