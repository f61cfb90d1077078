"""`spark.read.format("tarloom")`: a data source for SQL, in Python; it plans on the driver and reads on the executors.

    spark.dataSource.register(TarloomSource)
    spark.read.format("tarloom").schema("__key__ string, jpg binary").load("s3://bucket/laion")

The schema chooses members and columns; without one, all members are read. Column names with a dot want backticks in
SQL, and other names (toDF) before mapInArrow or mapInPandas.

Options: where, a condition as in Dataset.where; decode, such as "rgb" or "jpg=rgb,json=json"; join; on_error;
partition_bytes, of a task, 512 MiB by default: the process that plans does not know how many cores there are; pushdown.
With pushdown "true", Spark's own filters become part of `where`, so that bytes of other rows are never read; Spark
wants spark.sql.python.filterPushdown.enabled=true for that, and refuses the reader without.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args

import pyarrow as pa

from tarloom.errors import UsageError, missing_extra
from tarloom.format.index import KEY
from tarloom.read.dataset import Dataset, open_dataset
from tarloom.read.spark.filters import as_condition
from tarloom.read.spark.frames import PARTITION_BYTES, even_tasks, read_for_jvm
from tarloom.read.spark.types import arrow_schema, in_spark_types, reads_natively, spark_schema
from tarloom.read.view import ERROR, JoinPolicy, OnError

try:
    from pyspark.sql.datasource import DataSource, DataSourceReader, Filter, InputPartition
    from pyspark.sql.types import StructType
except ImportError as error:
    raise missing_extra("spark", error) from error


class TarloomSource(DataSource):  # type: ignore[misc]
    """The format "tarloom"."""

    @classmethod
    def name(cls) -> str:
        return "tarloom"

    def schema(self) -> StructType:
        return spark_schema(self._dataset().schema)

    def reader(self, schema: StructType) -> "PieceReader":
        kind = FilteringReader if self._choice("pushdown", ("false", "true")) == "true" else PieceReader
        size = self.options.get("partition_bytes", str(PARTITION_BYTES))
        if not size.isdecimal() or int(size) < 1:
            raise UsageError(f"partition_bytes must be a whole number of at least 1, not {size!r}")
        dataset = self._dataset()
        given = {KEY, ERROR} if dataset.view.on_error == "row" else {KEY}
        names = [name for name in schema.fieldNames() if name not in given]
        return kind(dataset.select(*names), schema, int(size))

    def _dataset(self) -> Dataset:
        if "path" not in self.options:
            raise UsageError("the path is missing: load(PATH)")
        dataset = open_dataset(self.options["path"]).joining(self._choice("join", get_args(JoinPolicy)))
        dataset = dataset.on_error(self._choice("on_error", get_args(OnError)))
        words = [word.strip() for word in self.options.get("decode", "").split(",") if word.strip()]
        dataset = dataset.decoding_as(words)
        return dataset.where(self.options["where"]) if "where" in self.options else dataset

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


class FilteringReader(PieceReader):
    """Takes those of Spark's filters that say the same as a condition on columns of parquet."""

    def pushFilters(self, filters: list[Filter]) -> Iterable[Filter]:
        """What is left for Spark to filter: all, where failures are rows, since those of a shard that is lost come
        whatever is asked of their columns."""
        if self._dataset.errors == "row":
            return filters
        columns = self._alike()
        return [pushed for pushed in filters if not self._take(pushed, columns)]

    def _alike(self) -> set[str]:
        """Columns that Spark gets in the types that they have; others it compares otherwise, as text or rounded."""
        stored = [(KEY, pa.string()), *((c.name, c.type) for c in self._dataset.joined if reads_natively(c.type))]
        wanted = {field.name: field.dataType for field in self._schema}
        return {field.name for field in spark_schema(pa.schema(stored)) if wanted.get(field.name) == field.dataType}

    def _take(self, wanted: Filter, columns: set[str]) -> bool:
        """Whether it is part of the dataset's condition from here on."""
        condition = as_condition(wanted, columns)
        if condition is None:
            return False
        try:
            self._dataset = self._dataset.where(condition)
        except UsageError:  # such as columns that only the case of their letters tells apart
            return False
        return True
