"""The Spark session of a scan: the caller's is used and left alone, else one is started, under spark-submit or not."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tarloom.errors import EngineError, missing_extra
from tarloom.read.scan import ScanConfig

try:
    from pyspark.errors import PySparkException, PySparkRuntimeError
    from pyspark.sql import SparkSession
except ImportError as error:
    raise missing_extra("spark", error) from error

_NEEDS_JAVA = "Spark did not start; it needs Java 17 or newer: check JAVA_HOME, or run scripts/install.sh"


@contextlib.contextmanager
def session(config: ScanConfig) -> Iterator[None]:
    """Spark for the time of a scan. Raises EngineError where it does not start."""
    if SparkSession.getActiveSession() is not None:
        yield
        return
    spark = start(config.num_workers, batch_rows=config.batch_size)
    try:
        yield
    finally:
        spark.stop()


def start(workers: int, *, batch_rows: int) -> SparkSession:
    """A new session: spark-submit's master and settings where it runs us, else this machine with `workers` tasks.

    Executors run this interpreter unless PYSPARK_PYTHON names another.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    settings = {
        "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
        # Rows are pictures: Spark's default of 10,000 a batch would be some hundred megabytes.
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(batch_rows),
    }
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # plain python, not spark-submit
        settings |= _on_this_machine(workers)
    builder = SparkSession.builder.appName("tarloom")
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except (PySparkException, PySparkRuntimeError, OSError) as error:
        raise EngineError(_NEEDS_JAVA) from error


def _on_this_machine(workers: int) -> dict[str, str]:
    """A local master that only this machine can reach, whatever its host name leads to, with quiet logs and no UI."""
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    logs = Path(__file__).with_name("log4j2.properties").as_uri()
    return {
        "spark.master": f"local[{workers}]",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={logs}",
        "spark.ui.enabled": "false",
    }
