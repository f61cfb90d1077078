"""Spark reads pieces in the Python processes of its executors; the driver sees the plan only.

    rows = ds.select("jpg", "caption").to_spark(spark)              # a data frame of the view: where, decoding, errors
    found = map_in_spark(ds, spark, embed, "key string, v array<float>")  # a function where the samples are read
    table = ds.to_spark_table(spark)                                # columns only, by Spark's own parquet reader
    rows = ds.select("jpg").to_spark(spark, rows=table.where(...))  # and then the members of what is left

A row of a data frame crosses from Python into the JVM, which is most of its cost: decode, filter and reduce before it
does. `spark.read.format("tarloom")` is in source.py, the table in table.py.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import pyarrow as pa

from tarloom import errors
from tarloom.errors import EngineError, RowError, TarloomError, missing_extra
from tarloom.read.dataset import Dataset
from tarloom.read.plan.pieces import Piece, pack
from tarloom.read.samples.batches import BATCH_ROWS, read_piece
from tarloom.read.scan import TALLY_SCHEMA, ScanConfig, Tallier, Tally
from tarloom.read.spark.types import arrow_schema, in_spark_types, spark_schema

try:
    from py4j.protocol import Py4JJavaError
    from pyspark import Broadcast
    from pyspark.errors import PySparkException
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType
except ImportError as error:
    raise missing_extra("spark", error) from error

from tarloom.read.samples.to_arrow import check_batches
from tarloom.read.spark.session import session

__all__ = [
    "even_tasks",
    "map_in_spark",
    "over_tasks",
    "plan_tasks",
    "read_for_jvm",
    "scan",
    "session",
    "spark_error",
    "to_spark",
]

PARTITION_BYTES = 512 << 20
LEAST_PARTITION_BYTES = 4 << 20
"""A Python task costs about 40 ms whatever it reads: 64 MiB a task halve the speed. Its rows stream through it, so that
its size is no matter of memory."""
FRAME_BATCH_BYTES = 4 << 20
"""Of a batch on its way into the JVM: 4 MiB pass a seventh faster than 32, and take less of an executor's memory."""

Task = tuple[Piece, ...]
Batches = Iterator[pa.RecordBatch]

_NAMED_ERRORS: Mapping[str, type[TarloomError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, TarloomError) and not issubclass(kind, RowError)
}
"""Those that can be made again of their message."""
_REASON = re.compile(r"(Error|Exception): ")


def to_spark(dataset: Dataset, spark: SparkSession, *, partition_bytes: int | None = None) -> DataFrame:
    """A data frame of `__key__`, members as binary or as decoded, and joined columns. Vectors are arrays of float.

    partition_bytes: of a task; by default 512 MiB, less where there would be fewer tasks than cores.
    """
    schema = spark_schema(dataset.schema)
    read = partial(_rows, arrow_schema(schema))
    return over_tasks(spark, plan_tasks(dataset, spark, partition_bytes), read, schema)


def map_in_spark(
    dataset: Dataset,
    spark: SparkSession,
    function: Callable[[Batches], Batches],
    schema: StructType | str,
    *,
    partition_bytes: int | None = None,
    batch_rows: int = BATCH_ROWS,
) -> DataFrame:
    """What DataFrame.mapInArrow gives, but the function runs in the process that reads: samples never enter the JVM.

    function: from an iterator of batches of `dataset.schema`, all of one task, to batches of `schema`.
    """
    read = partial(_mapped, function, batch_rows)
    return over_tasks(spark, plan_tasks(dataset, spark, partition_bytes), read, schema)


def plan_tasks(dataset: Dataset, spark: SparkSession, partition_bytes: int | None = None) -> list[Task]:
    """All pieces of the dataset, neighbours in one task. Raises UsageError for a view that batches cannot hold."""
    check_batches(dataset.view)
    if partition_bytes is None:
        per_core = dataset.nbytes // spark.sparkContext.defaultParallelism + 1
        partition_bytes = min(PARTITION_BYTES, max(LEAST_PARTITION_BYTES, per_core))
    return even_tasks(dataset, partition_bytes)


def even_tasks(dataset: Dataset, partition_bytes: int) -> list[Task]:
    """All pieces, in tasks of about this many bytes."""
    return pack(dataset.plan(partition_bytes), total_bytes=dataset.nbytes, target_bytes=partition_bytes)


def over_tasks(
    spark: SparkSession, tasks: Sequence[Task], function: Callable[[Task], Batches], schema: StructType | str
) -> DataFrame:
    """One Spark task for each of these, in one Python process: what the function makes of its pieces."""
    numbers = spark.range(0, len(tasks), 1, max(1, len(tasks)))
    return numbers.mapInArrow(partial(_run, spark.sparkContext.broadcast(list(tasks)), function), schema)


def scan(dataset: Dataset, config: ScanConfig, tallier: Tallier) -> Iterator[Tally]:
    """Tallies of partitions, counted on the executors in the tasks that read."""
    spark = SparkSession.active()
    count, schema = partial(_tally, tallier), spark_schema(TALLY_SCHEMA)
    try:
        for row in map_in_spark(dataset, spark, count, schema, batch_rows=config.batch_size).collect():
            yield Tally.from_row(row.asDict())
    except (PySparkException, Py4JJavaError) as error:
        raise spark_error(error) from error


def spark_error(error: Exception) -> TarloomError:
    """The error of ours that ended a task, found in Spark's report of the Python traceback; else an EngineError."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        name, _, message = line.partition(": ")
        kind = _NAMED_ERRORS.get(name.rpartition(".")[2]) if name.startswith("tarloom.errors.") else None
        if kind is not None:
            return kind(message)
    reason = next(filter(_REASON.search, lines), lines[0] if lines else type(error).__name__)
    return EngineError(f"Spark failed while reading: {reason.removeprefix(': ')}")


def _run(tasks: "Broadcast[list[Task]]", function: Callable[[Task], Batches], numbers: Batches) -> Batches:
    """On an executor: the task of this partition's number."""
    for batch in numbers:
        for number in batch["id"].to_pylist():
            yield from function(tasks.value[number])


def read_for_jvm(piece: Piece) -> Batches:
    """The piece's batches, of a size that passes well into the JVM."""
    rows = FRAME_BATCH_BYTES * piece.rows // max(piece.bytes, 1)
    return read_piece(piece, batch_rows=max(1, min(rows, BATCH_ROWS)))


def _rows(schema: pa.Schema, pieces: Task) -> Batches:
    for piece in pieces:
        for batch in read_for_jvm(piece):
            yield in_spark_types(batch, schema, piece.url)


def _mapped(function: Callable[[Batches], Batches], batch_rows: int, pieces: Task) -> Batches:
    return function(itertools.chain.from_iterable(read_piece(piece, batch_rows=batch_rows) for piece in pieces))


def _tally(tallier: Tallier, batches: Batches) -> Batches:
    yield tallier.merged(map(tallier.of_batch, batches)).to_batch()
