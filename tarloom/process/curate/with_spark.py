"""Spark asks: a task for some portions, what they say shuffled by partition, a task for each partition.

Only what was said enters the JVM.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa

from tarloom.engines.choose import EngineConfig
from tarloom.engines.spark_session import spark_session
from tarloom.engines.workers import parse_workers
from tarloom.errors import missing_extra
from tarloom.process.curate.parcels import SCHEMA, Parcel, packed, unpacked
from tarloom.process.curate.work import Portion, Work
from tarloom.read.plan.pieces import share
from tarloom.read.spark.frames import spark_error
from tarloom.read.spark.types import spark_schema

try:
    from py4j.protocol import Py4JJavaError
    from pyspark import Broadcast
    from pyspark.errors import PySparkException
    from pyspark.sql import DataFrame, SparkSession
except ImportError as error:
    raise missing_extra("spark", error) from error

TASKS_PER_CORE = 4
Batches = Iterator[pa.RecordBatch]
SETTINGS = {"spark.log.level": "FATAL"}
"""What goes wrong with a task is told once, by us."""


def ask(work: Work, portions: Sequence[Portion], run_on: EngineConfig) -> Iterator[Parcel]:
    """The answer's parts, as they come. Raises EngineError where Spark fails, and what reading raises."""
    with spark_session(parse_workers(run_on.num_workers).most, SETTINGS) as spark:
        try:
            rows = _rows(work, portions, spark)
            # Names of files are few, and are collected by one job of all tasks; to iterate is a job for each, in turn.
            for row in rows.toLocalIterator() if work.storage is None else rows.collect():
                yield from unpacked(pa.Table.from_pylist([row.asDict()], schema=SCHEMA))
        except (PySparkException, Py4JJavaError) as error:
            raise spark_error(error) from error


def _rows(work: Work, portions: Sequence[Portion], spark: SparkSession) -> DataFrame:
    tasks = min(len(portions), TASKS_PER_CORE * spark.sparkContext.defaultParallelism)
    shares = [share(portions, part=part, parts=tasks) for part in range(tasks)]
    schema = spark_schema(SCHEMA)
    numbers = spark.range(0, tasks, 1, max(1, tasks))
    said = numbers.mapInArrow(partial(_first, work, spark.sparkContext.broadcast(shares)), schema)
    if work.statement.last is None:
        return said

    def last(group: pa.Table) -> pa.Table:  # of which Spark reads the types
        return pa.Table.from_batches([packed([work.last(list(unpacked(group)))])])

    return said.groupBy("partition").applyInArrow(last, schema)


def _first(work: Work, shares: "Broadcast[list[Sequence[Portion]]]", numbers: Batches) -> Batches:
    for batch in numbers:
        for number in batch["id"].to_pylist():
            for portion in shares.value[number]:
                yield packed(work.first(portion))
