"""Spark reads pieces through a Python data source: executors open the shards, the driver sees the plan only.

    spark.dataSource.register(TarloomSource)
    spark.read.format("tarloom").schema("__key__ string, jpg binary").load("s3://bucket/laion")

The schema chooses members and columns; without one, all members are read. Column names with a dot want backticks in
SQL, and other names (toDF) before mapInArrow or mapInPandas.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa

from tarloom.errors import (
    CorruptShard,
    EngineError,
    ShardError,
    StaleIndex,
    StaleSidecar,
    StorageError,
    TarloomError,
    TruncatedShard,
    missing_extra,
)
from tarloom.read.batches import BATCH_ROWS, read_piece
from tarloom.read.dataset import Dataset, open_dataset
from tarloom.read.pieces import MIB, Piece, pack
from tarloom.read.scan import TALLY_SCHEMA, ScanConfig, Tallier, Tally

try:
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
    from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
    from pyspark.sql.types import StructType
except ImportError as error:
    raise missing_extra("spark", error) from error

from tarloom.read.spark_session import session

__all__ = ["TarloomSource", "scan", "session", "to_spark"]

PARTITION_BYTES = 256 * MIB
LEAST_PARTITION_BYTES = 4 * MIB
"""A Python task costs about 40 ms whatever it reads."""
_NAMED_ERRORS = {
    kind.__name__: kind for kind in (StorageError, ShardError, CorruptShard, TruncatedShard, StaleIndex, StaleSidecar)
}

_REASON = re.compile(r"(Error|Exception): ")


class TarloomSource(DataSource):  # type: ignore[misc]
    """`spark.read.format("tarloom")`. Options: path; partition_bytes, of a task; batch_rows, of an Arrow batch."""

    @classmethod
    def name(cls) -> str:
        return "tarloom"

    def schema(self) -> StructType:
        return _spark_schema(self._dataset())

    def reader(self, schema: StructType) -> "PieceReader":
        dataset = self._dataset()
        names = [name for name in schema.fieldNames() if name != "__key__"]
        partition_bytes = int(self.options.get("partition_bytes", PARTITION_BYTES))
        pieces = dataset.select(*names).pieces(partition_bytes)
        tasks = list(pack(pieces, target_bytes=partition_bytes))
        return PieceReader(tasks, schema, int(self.options.get("batch_rows", BATCH_ROWS)))

    def _dataset(self) -> Dataset:
        return open_dataset(self.options["path"])


class PieceReader(DataSourceReader):  # type: ignore[misc]
    """Reads the pieces of a partition, as batches of exactly the schema that was asked for."""

    def __init__(self, tasks: Sequence[tuple[Piece, ...]], schema: StructType, batch_rows: int) -> None:
        self._tasks = tasks
        self._schema = schema
        self._batch_rows = batch_rows

    def partitions(self) -> list[InputPartition]:
        return [InputPartition(pieces) for pieces in self._tasks]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        schema = to_arrow_schema(self._schema, timezone="UTC")
        for piece in partition.value or ():
            for batch in read_piece(piece, batch_rows=self._batch_rows):
                arrays = [batch[field.name].cast(field.type) for field in schema]
                yield pa.record_batch(arrays, schema=schema)


def to_spark(
    dataset: Dataset, spark: SparkSession, *, partition_bytes: int | None = None, batch_rows: int = BATCH_ROWS
) -> DataFrame:
    """A data frame of `__key__`, members as binary, joined columns. Vectors come as arrays of float.

    partition_bytes: of a task; by default 256 MiB, less where there would be fewer tasks than cores.
    """
    if partition_bytes is None:
        per_core = sum(piece.bytes for piece in dataset.pieces()) // (2 * spark.sparkContext.defaultParallelism)
        partition_bytes = min(PARTITION_BYTES, max(LEAST_PARTITION_BYTES, per_core))
    spark.dataSource.register(TarloomSource)
    reader = spark.read.format("tarloom").schema(_spark_schema(dataset))
    return reader.options(partition_bytes=partition_bytes, batch_rows=batch_rows).load(dataset.url)


def scan(dataset: Dataset, config: ScanConfig, tallier: Tallier) -> Iterator[Tally]:
    """Tallies of partitions, counted on the executors, after the bytes have passed through Spark's own rows."""
    spark = SparkSession.active()
    rows = to_spark(dataset, spark, batch_rows=config.batch_size)
    # mapInArrow cannot resolve names with dots: they travel as numbers.
    numbered = rows.toDF(*(f"column{i}" for i in range(len(rows.columns))))
    count = partial(_tally_partition, tallier, rows.columns)
    try:
        for row in numbered.mapInArrow(count, from_arrow_schema(TALLY_SCHEMA)).collect():
            yield Tally.from_row(row.asDict())
    except (PySparkException, Py4JJavaError) as error:
        raise _our_error(error) from error


def _tally_partition(
    tallier: Tallier, names: Sequence[str], batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    whole = tallier.empty()
    for batch in batches:
        whole.merge(tallier.of_batch(batch.rename_columns(list(names))), show=tallier.show)
    yield whole.to_batch()


def _spark_schema(dataset: Dataset) -> StructType:
    return from_arrow_schema(pa.schema([(field.name, _spark_type(field.type)) for field in dataset.schema]))


def _spark_type(kind: pa.DataType) -> pa.DataType:
    """The nearest type that Spark knows: it has no half floats, unsigned numbers or fixed-size lists."""
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_unsigned_integer(kind):
        return pa.int64()
    if pa.types.is_dictionary(kind):
        return _spark_type(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC")
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_spark_type(kind.value_type))
    return kind


def _our_error(error: Exception) -> TarloomError:
    """The error of ours that ended a task, found in Spark's report of the Python traceback; else an EngineError."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        name, _, message = line.partition(": ")
        kind = _NAMED_ERRORS.get(name.rpartition(".")[2]) if name.startswith("tarloom.errors.") else None
        if kind is not None:
            return kind(message)
    reason = next(filter(_REASON.search, lines), lines[0] if lines else type(error).__name__)
    return EngineError(f"Spark failed while reading: {reason.removeprefix(': ')}")
