"""Fixtures that more than one folder of tests uses: the servers and engines that are started once."""

import atexit
import gc
import os
import signal
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tarloom import cli
from tests.s3_server import S3Server, running_s3_server

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")  # Ray would end workers where others use the memory

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what ends in &; children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:  # torch and vLLM would take every core for each of them
    os.environ |= {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: where files are tested side by side, none of them should be waited for."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A real S3 server (Ceph's radosgw) with a bucket; AWS_* in the environment lead to it."""
    with running_s3_server() as server:
        yield server


@pytest.fixture
def s3_folder(s3: S3Server) -> str:
    """The URL of a folder that is this test's own."""
    return s3.folder(uuid.uuid4().hex)


@pytest.fixture
def program_here() -> Iterator[None]:
    """For a test that runs a command in its own process, which is left as it was: signals, collections, its exit."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    threshold = gc.get_threshold()
    yield
    for number, handler in handlers.items():
        if handler is not None:  # one that Python did not set cannot be set by it
            signal.signal(number, handler)
    gc.set_threshold(*threshold)
    atexit.unregister(cli._leave_light)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One small Ray cluster of this process for all tests that want one."""
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=256 << 20)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def spark_session() -> Iterator[object]:
    """One local Spark of this process for all tests that want one."""
    pytest.importorskip("pyspark")
    from tarloom.engines.spark_session import start

    spark = start(2, {"spark.sql.execution.arrow.maxRecordsPerBatch": "1024"})
    yield spark
    spark.stop()
