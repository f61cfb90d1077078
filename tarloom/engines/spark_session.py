"""The Spark session of a run: one that is there is used and left alone, else one is started and stopped again."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tarloom.errors import EngineError, missing_extra

try:
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession
except ImportError as error:
    raise missing_extra("spark", error) from error

_SUBMITTED = "PYSPARK_GATEWAY_PORT"
"""Set where spark-submit runs this process: the JVM and its settings are there already."""
_JAVA = "it needs Java 17 or newer: check JAVA_HOME, or run scripts/install.sh"


@contextlib.contextmanager
def spark_session(workers: int, settings: Mapping[str, str]) -> Iterator[SparkSession]:
    """Spark for as long as the block lasts: the caller's session, else one that is started here.

    settings: of a session that is started here, where the user has given none. Raises EngineError where it does not
    start.
    """
    if SparkContext._active_spark_context is not None:  # the active session is one of this thread alone
        yield SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()
        return
    spark = start(workers, settings)
    try:
        yield spark
    finally:
        spark.stop()


def start(workers: int, settings: Mapping[str, str]) -> SparkSession:
    """A new session: with spark-submit's master and settings where it runs us, else here with `workers` tasks at once.

    Executors run this interpreter unless PYSPARK_PYTHON names another; tarloom must be installed there.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if _SUBMITTED not in os.environ:
        _check_installed()
    try:
        given = _given_settings()
        master = given.get("spark.master", f"local[{workers}]")
        builder = SparkSession.builder.appName("tarloom").master(master)
        for name, value in {**_defaults(master, workers), **settings}.items():
            if name not in given:
                builder = builder.config(name, value)
        return builder.getOrCreate()
    except (PySparkException, OSError) as error:
        raise EngineError(f"Spark did not start; {_JAVA}") from error


def _check_installed() -> None:
    """Spark's scripts would say it in lines of their own. Raises EngineError where there is no Spark, or no Java."""
    spark, java_home = os.environ.get("SPARK_HOME"), os.environ.get("JAVA_HOME")
    if spark:  # which may have settings that name a Java
        if shutil.which(os.path.join(spark, "bin", "spark-submit")) is None:
            raise EngineError(f"SPARK_HOME: no Spark in {spark}; unset it, and pyspark uses its own")
        return
    java = os.path.join(java_home, "bin", "java") if java_home else "java"
    if shutil.which(java) is None and "SPARK_CONF_DIR" not in os.environ:
        raise EngineError(f"Spark cannot start without {java}; {_JAVA}")


def _given_settings() -> dict[str, str]:
    """What spark-submit was told, or nothing."""
    if _SUBMITTED not in os.environ:
        return {}
    SparkContext._ensure_initialized()  # connects to spark-submit's JVM, from which SparkConf then reads
    return dict(SparkConf().getAll())


def _defaults(master: str, workers: int) -> dict[str, str]:
    """Settings where the user has none: quiet; on one machine reachable from that machine only, and with shuffles into
    as many parts as are worked on at once. (Spark's 200 suit a cluster: a small question spent a third of its time on
    them here. What is too large for a part's memory goes to the disk, as there.)"""
    settings = {"spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower()}
    if _SUBMITTED in os.environ:
        settings["spark.log.level"] = "ERROR"
    else:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        logs = Path(__file__).with_name("log4j2.properties").as_uri()
        settings["spark.driver.extraJavaOptions"] = f"-Dlog4j2.configurationFile={logs}"
    if master.startswith("local"):
        settings |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": str(workers),
        }
    return settings
