"""The Spark session of a scan."""

import contextlib
from collections.abc import Iterator

from tarloom.read.scan import ScanConfig


@contextlib.contextmanager
def session(config: ScanConfig) -> Iterator[None]:
    """Spark for the time of a scan. Raises EngineError where it does not start."""
    from tarloom.engines.spark_session import spark_session

    with spark_session(config.num_workers, {}):
        yield
