"""The Ray session that the Ray readers share."""

import contextlib
from collections.abc import Iterator

from tarloom.read.scan import ScanConfig

STORE_BYTES_PER_WORKER = 512 << 20
"""Batches pass through the object store."""


@contextlib.contextmanager
def session(config: ScanConfig) -> Iterator[None]:
    """Ray for the time of a scan, without what Ray Data tells about the plan and progress of every execution.

    Raises UsageError where no cluster answers at the address given.
    """
    from tarloom.engines.ray_datasets import quiet_data
    from tarloom.engines.ray_session import ray_session

    workers = config.num_workers
    store_bytes = min(workers, 4) * STORE_BYTES_PER_WORKER
    with ray_session(cpus=workers, store_bytes=store_bytes, address=config.ray_address), quiet_data():
        yield
