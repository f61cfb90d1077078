"""`spark.read.format("tarloom")`: a data source for SQL, in Python; it plans on the driver and reads on the executors.

    spark.dataSource.register(TarloomSource)
    spark.read.format("tarloom").schema("__key__ string, jpg binary").load("s3://bucket/laion")

The schema chooses members and columns; without one, all members are read. Column names with a dot want backticks in
SQL, and other names (toDF) before mapInArrow or mapInPandas.

Options: where, a condition as in Dataset.where; decode, such as "rgb" or "jpg=rgb,json=json"; join; on_error;
partition_bytes, of a task, 512 MiB by default: the process that plans does not know how many cores there are.

Spark's own filters are not taken over. Spark keeps what a reader made of a query's filters with the data frame, or the
view, and reads by it in the frame's next queries too, whose rows are then lacking or doubled.
"""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import pyarrow as pa

from tarloom.errors import UsageError, missing_extra
from tarloom.format.index import KEY
from tarloom.read.dataset import Dataset, open_dataset
from tarloom.read.spark.frames import PARTITION_BYTES, even_tasks, read_for_jvm
from tarloom.read.spark.types import arrow_schema, in_spark_types, spark_schema
from tarloom.read.view import ERROR, JoinPolicy, OnError

try:
    from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
    from pyspark.sql.types import StructType
except ImportError as error:
    raise missing_extra("spark", error) from error


OPTIONS = ("path", "where", "decode", "join", "on_error", "partition_bytes")


class TarloomSource(DataSource):  # type: ignore[misc]
    """The format "tarloom"."""

    @classmethod
    def name(cls) -> str:
        return "tarloom"

    def schema(self) -> StructType:
        return spark_schema(self._dataset().schema)

    def reader(self, schema: StructType) -> "PieceReader":
        size = self.options.get("partition_bytes", str(PARTITION_BYTES))
        if not size.isdecimal() or int(size) < 1:
            raise UsageError(f"partition_bytes must be a whole number of at least 1, not {size!r}")
        dataset = self._dataset()
        given = {KEY, ERROR} if dataset.view.on_error == "row" else {KEY}
        names = [name for name in schema.fieldNames() if name not in given]
        return PieceReader(dataset.select(*names), schema, int(size))

    def _dataset(self) -> Dataset:
        if "path" not in self.options:
            raise UsageError("the path is missing: load(PATH)")
        self._check_options()
        dataset = open_dataset(self.options["path"]).joining(self._choice("join", get_args(JoinPolicy)))
        dataset = dataset.on_error(self._choice("on_error", get_args(OnError)))
        words = [word.strip() for word in self.options.get("decode", "").split(",") if word.strip()]
        dataset = dataset.decoding_as(words)
        return dataset.where(self.options["where"]) if "where" in self.options else dataset

    def _check_options(self) -> None:
        """Raises UsageError for one that there is none of: were it a condition, all would be read."""
        unknown = sorted(
            name for name in self.options if name.lower() not in (*OPTIONS, "pushdown") and "." not in name
        )
        if unknown:  # those with a dot may be Spark's
            raise UsageError(f"there is no option {unknown[0]}; there are {', '.join(OPTIONS)}")
        if self._choice("pushdown", ("false", "true")) == "true":
            raise UsageError(
                "pushdown: Spark would read by one query's filters in a data frame's next queries, too, and lose rows; "
                "give the condition as option('where', ...), or filter ds.to_spark_table(spark)"
            )

    def _choice(self, name: str, known: Sequence[Any]) -> Any:
        """An option's value; without one the first of those known."""
        value = self.options.get(name, known[0])
        if value.lower() not in known:
            raise UsageError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        return value.lower()


class PieceReader(DataSourceReader):  # type: ignore[misc]
    """Reads the pieces of a partition, as batches of exactly the schema that was asked for."""

    def __init__(self, dataset: Dataset, schema: StructType, partition_bytes: int) -> None:
        self._dataset = dataset
        self._schema = schema
        self._partition_bytes = partition_bytes

    def __getstate__(self) -> dict[str, Any]:
        """Every task gets its pieces from its partition, and no catalogue."""
        return {name: value for name, value in vars(self).items() if name != "_dataset"}

    def partitions(self) -> list[InputPartition]:
        return [InputPartition(task) for task in even_tasks(self._dataset, self._partition_bytes)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        schema = arrow_schema(self._schema)
        for piece in partition.value or ():
            for batch in read_for_jvm(piece):
                yield in_spark_types(batch, schema, piece.url)
