"""The Ray session that the Ray readers share: one that is there is used and left alone, else one is started."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

from tarloom.errors import UsageError, missing_extra
from tarloom.read.scan import ScanConfig

try:
    import ray
except ImportError as error:
    raise missing_extra("ray", error) from error

STORE_BYTES_PER_WORKER = 512 << 20
"""Batches pass through the object store."""


@contextlib.contextmanager
def session(config: ScanConfig) -> Iterator[None]:
    """Ray for the time of a scan: the caller's session, the cluster at RAY_ADDRESS, or one of this machine.

    Raises UsageError where no cluster answers at RAY_ADDRESS.
    """
    started = not ray.is_initialized()
    if started:
        _connect(os.environ.get("RAY_ADDRESS"), config.num_workers)
    logger = logging.getLogger("ray.data")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)  # it tells the plan and progress of every execution
        yield
    finally:
        logger.setLevel(level)
        if started:
            ray.shutdown()


def _connect(address: str | None, workers: int) -> None:
    store = min(workers, 4) * STORE_BYTES_PER_WORKER
    here = {"num_cpus": max(workers, os.cpu_count() or 1), "object_store_memory": store, "include_dashboard": False}
    options = {"address": address} if address else {"address": "local", **here}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own notices about its future defaults
            ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"no Ray cluster at {address}" if address else "Ray did not start on this machine"
        raise UsageError(f"{where}: {str(error).splitlines()[0]}; check RAY_ADDRESS") from error
