"""Sees whether Ray works here: a session, its nodes, and one task that runs."""

import time
from typing import Any

from tarloom.engines.ray_session import first_line, ray_session
from tarloom.errors import EngineError, missing_extra

try:
    import ray
    from ray.exceptions import RayError
except ImportError as error:
    raise missing_extra("ray", error) from error

SECONDS = 120.0
STORE_BYTES = 128 << 20


def check_ray(address: str | None = None) -> dict[str, object]:
    """What Ray has, after a task has run on it.

    address: of a running cluster; else RAY_ADDRESS; else a session is started on this machine. Raises UsageError where
    no cluster answers, EngineError where a task does not end.
    """
    with ray_session(cpus=1, store_bytes=STORE_BYTES, address=address):
        started = time.monotonic()
        task: Any = ray.remote(_answer)
        try:
            ray.get(task.remote(), timeout=SECONDS)
        except RayError as error:
            raise EngineError(f"Ray is there, but a task did not end: {first_line(error)}") from error
        has = ray.cluster_resources()
        return {
            "ray": ray.__version__,
            "nodes": sum(1 for node in ray.nodes() if node["Alive"]),
            "cpus": has.get("CPU", 0.0),
            "gpus": has.get("GPU", 0.0),
            "memory_bytes": int(has.get("memory", 0)),
            "task_seconds": round(time.monotonic() - started, 3),
        }


def _answer() -> int:
    return 1
