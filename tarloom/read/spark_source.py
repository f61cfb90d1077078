"""`spark.read.format("tarloom")`: a data source for SQL, in Python; it plans on the driver and reads on the executors.

    spark.dataSource.register(TarloomSource)
    spark.read.format("tarloom").schema("__key__ string, jpg binary").load("s3://bucket/laion")

The schema chooses members and columns; without one, all members are read. Column names with a dot want backticks in
SQL, and other names (toDF) before mapInArrow or mapInPandas.

Options: where, a condition as in Dataset.where; decode, such as "rgb" or "jpg=rgb,json=json"; join; on_error;
partition_bytes of a task; batch_rows of an Arrow batch; pushdown. With pushdown "true", Spark's own filters become
part of `where`, so that bytes of other rows are never read; Spark wants spark.sql.python.filterPushdown.enabled=true
for that, and refuses the reader without.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from tarloom.errors import missing_extra
from tarloom.read.batches import BATCH_ROWS, read_piece
from tarloom.read.dataset import Dataset, open_dataset
from tarloom.read.pieces import pack
from tarloom.read.spark import PARTITION_BYTES
from tarloom.read.spark_filters import as_condition
from tarloom.read.spark_types import arrow_schema, in_spark_types, reads_natively, spark_schema

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
        names = [name for name in schema.fieldNames() if name != "__key__"]
        pushes = self.options.get("pushdown", "false").lower() == "true"
        kind = FilteringReader if pushes else PieceReader
        return kind(
            self._dataset().select(*names),
            schema,
            partition_bytes=int(self.options.get("partition_bytes", PARTITION_BYTES)),
            batch_rows=int(self.options.get("batch_rows", BATCH_ROWS)),
        )

    def _dataset(self) -> Dataset:
        options = self.options
        dataset = open_dataset(options["path"]).joining(options.get("join", "error"))
        dataset = dataset.on_error(options.get("on_error", "raise"))
        if "where" in options:
            dataset = dataset.where(options["where"])
        forms = [part.strip().partition("=") for part in options.get("decode", "").split(",") if part.strip()]
        every = next((form for form, equals, _ in forms if not equals), None)
        return dataset.decoding(every, **{member: form for member, equals, form in forms if equals})


class PieceReader(DataSourceReader):  # type: ignore[misc]
    """Reads the pieces of a partition, as batches of exactly the schema that was asked for."""

    def __init__(self, dataset: Dataset, schema: StructType, *, partition_bytes: int, batch_rows: int) -> None:
        self._dataset = dataset
        self._schema = schema
        self._partition_bytes = partition_bytes
        self._batch_rows = batch_rows

    def __getstate__(self) -> dict[str, Any]:
        """Every task gets its pieces from its partition, and no catalogue."""
        return {name: value for name, value in vars(self).items() if name != "_dataset"}

    def partitions(self) -> list[InputPartition]:
        pieces = self._dataset.plan(self._partition_bytes)
        return [InputPartition(task) for task in pack(pieces, target_bytes=self._partition_bytes)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        schema = arrow_schema(self._schema)
        for piece in partition.value or ():
            for batch in read_piece(piece, batch_rows=self._batch_rows):
                yield in_spark_types(batch, schema, piece.url)


class FilteringReader(PieceReader):
    """Takes those of Spark's filters that say the same as a condition on columns of parquet."""

    def pushFilters(self, filters: list[Filter]) -> Iterable[Filter]:
        """What is left for Spark to filter."""
        columns = self._dataset.catalog.columns()
        members = self._dataset.catalog.members()
        names = {name for name in columns if name not in members and reads_natively(columns[name].type)}
        for pushed in filters:
            condition = as_condition(pushed, names | {"__key__"})
            if condition is None:
                yield pushed
            else:
                self._dataset = self._dataset.where(condition)
