"""The Spark session of a scan."""

import contextlib
from collections.abc import Iterator

from tarloom.read.scan import ScanConfig


@contextlib.contextmanager
def session(config: ScanConfig) -> Iterator[None]:
    """Spark for the time of a scan. Raises EngineError where it does not start."""
    from tarloom.engines.spark_session import spark_session

    # Rows are pictures: Spark's default of 10,000 a batch would be some hundred megabytes.
    settings = {"spark.sql.execution.arrow.maxRecordsPerBatch": str(config.batch_size)}
    with spark_session(config.num_workers, settings):
        yield
