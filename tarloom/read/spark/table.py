"""Late materialisation on Spark: ask metadata and sidecars first, then read the bytes of what is left.

    table = ds.to_spark_table(spark)                       # __shard__, __key__ and columns; no member is read
    kept = table.where("`clip.score` > 0.9").select("__shard__", "__key__", "caption")
    rows = ds.select("jpg").to_spark(spark, rows=kept)     # kept, and the members of its samples

The table is read by Spark's own parquet reader: columns are pruned, filters pushed down, nothing passes through Python.
Such a reader proves nothing, so all keys are proven first, once, by the join that every reader here uses: a Spark job
when the table is made. Where that reader cannot be had (object stores, a `where` of ours, join "skip" or "null", types
that Spark does not read, tables with rows of no sample), the same columns come through the read path in Python.
"""

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial, reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import JoinError, UsageError, missing_extra
from tarloom.format.index import KEY
from tarloom.format.layout import metadata_name, sidecar_name
from tarloom.format.metadata import SUCCESS
from tarloom.read.columns.tables import ABSENT, JoinedTable
from tarloom.read.dataset import Dataset
from tarloom.read.plan.indexes import cached_index
from tarloom.read.plan.pieces import WHOLE_SHARD, Piece, share
from tarloom.read.samples.to_arrow import check_batches
from tarloom.read.spark.frames import Batches, Task, over_tasks, read_for_jvm, spark_error
from tarloom.read.spark.types import arrow_schema, in_spark_types, reads_natively, spark_schema
from tarloom.read.view import Column, by_stage

try:
    from py4j.protocol import Py4JJavaError
    from pyspark import Broadcast
    from pyspark.errors import PySparkException
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql import functions as sql
    from pyspark.sql.types import StringType, StructField, StructType
except ImportError as error:
    raise missing_extra("spark", error) from error

SHARD = "__shard__"
TASKS_PER_CORE = 4
"""Of a fetch: enough to be even, few enough that Python's start (40 ms a task) does not matter."""
_ADDRESS, _SUCCEEDED = "__address__", "__succeeded__"
_LISTING_JOB = "spark.sql.sources.parallelPartitionDiscovery.threshold"


def to_spark_table(dataset: Dataset, spark: SparkSession) -> DataFrame:
    """A data frame of `__shard__`, `__key__` and the columns that are selected; without a selection, all columns that
    Spark itself can read. Members are left out.

    Raises what readers raise where a sample has not exactly one fresh row in a table, unless the dataset's join policy
    says otherwise.
    """
    dataset = dataset.select(*_columns(dataset))
    pieces = dataset.pieces(WHOLE_SHARD)
    tasks = _tasks(pieces, spark)
    if pieces and _may_be_native(dataset) and _is_proven(dataset, tasks, spark):
        return _native(dataset, pieces, spark)
    schema = _with_shard(dataset)
    return over_tasks(spark, tasks, partial(_placed, arrow_schema(schema)), schema)


def fetch(dataset: Dataset, rows: DataFrame, *, partitions: int | None = None) -> DataFrame:
    """These rows, which have `__shard__` and `__key__`, with what the dataset's view reads of their samples.

    Samples that its view filters out are left out. partitions: by default four a core, and no more than shards. Raises
    UsageError for a name that both sides have, and for a view that batches cannot hold.
    """
    check_batches(dataset.view)
    added = spark_schema(pa.schema([field for field in dataset.schema if field.name != KEY]))
    _check_names(rows.columns, added.names)
    spark = rows.sparkSession
    pieces = {piece.shard: piece for piece in dataset.plan(WHOLE_SHARD)}
    parts = partitions or min(len(pieces) or 1, TASKS_PER_CORE * spark.sparkContext.defaultParallelism)
    schema = StructType([*rows.schema.fields, *added.fields])
    # mapInArrow cannot resolve names with dots: they travel as numbers.
    numbered = rows.toDF(*(f"column{i}" for i in range(len(rows.columns))))
    order = [f"column{rows.columns.index(name)}" for name in (SHARD, KEY)]
    near = numbered.repartition(parts, order[0]).sortWithinPartitions(*order)
    known = spark.sparkContext.broadcast(pieces)
    return near.mapInArrow(partial(_fetched, known, rows.columns, arrow_schema(schema)), schema)


def _columns(dataset: Dataset) -> list[str]:
    if dataset.selected is not None:
        return [column.name for column in dataset.joined]
    found, members = dataset.catalog.columns(), dataset.catalog.members()
    return [name for name, column in found.items() if name not in members and reads_natively(column.type)]


def _tasks(pieces: Sequence[Piece], spark: SparkSession) -> list[Task]:
    parts = min(len(pieces), spark.sparkContext.defaultParallelism)
    return [tuple(share(pieces, part=part, parts=parts)) for part in range(parts)]


def _with_shard(dataset: Dataset) -> StructType:
    return StructType([StructField(SHARD, StringType(), False), *spark_schema(dataset.schema).fields])


def _placed(schema: pa.Schema, pieces: Task) -> Batches:
    for piece in pieces:
        for batch in read_for_jvm(piece):
            shards = pa.array([piece.shard] * batch.num_rows, pa.string())
            named = pa.record_batch([shards, *batch.columns], names=[SHARD, *batch.schema.names])
            yield in_spark_types(named, schema, piece.url)


def _may_be_native(dataset: Dataset) -> bool:
    view, storage = dataset.view, dataset.catalog.storage
    plain = view.where is None and view.join == "error" and view.on_error == "raise"
    types = bool(view.columns) and all(reads_natively(column.type) for column in view.columns)
    return plain and types and storage.local_path(dataset.shards[0].tar.name) is not None


def _is_proven(dataset: Dataset, tasks: Sequence[Task], spark: SparkSession) -> bool:
    """Whether all tables hold exactly the samples' rows, in the types that are wanted. Raises what a join raises."""
    try:
        found = over_tasks(spark, tasks, _proof, "exact boolean").collect()
    except (PySparkException, Py4JJavaError) as error:
        raise spark_error(error) from error
    return all(row.exact for row in found)


def _proof(pieces: Task) -> Batches:
    yield pa.record_batch([pa.array([all(map(_is_exact, pieces))])], names=["exact"])


def _is_exact(piece: Piece) -> bool:
    index = cached_index(piece.storage, piece.shard, piece.tar, piece.identity)
    numbers = np.arange(index.rows)
    exact = True
    for stage, columns in by_stage(piece.view.columns).items():
        table = JoinedTable(piece, index, stage, ())
        absent = table.rows(numbers) == ABSENT
        if absent.any():
            raise table.problem(int(numbers[absent][0]))
        types = {column.field: column.type for column in columns} | dict.fromkeys(_keys(stage), pa.string())
        exact &= table.samples == index.rows and all(table.type_of(name) == kind for name, kind in types.items())
    return exact


def _native(dataset: Dataset, pieces: Sequence[Piece], spark: SparkSession) -> DataFrame:
    stages = by_stage(dataset.view.columns)
    tables = [_parquet(spark, pieces, stage, columns) for stage, columns in stages.items()]
    whole = reduce(lambda left, right: left.join(right, [_ADDRESS, KEY]), tables)
    shard = _shard(str(pieces[0].storage.url)).alias(SHARD)
    return whole.select(shard, KEY, *(_quoted(column.name) for column in dataset.view.columns))


def _parquet(spark: SparkSession, pieces: Sequence[Piece], stage: str | None, columns: Sequence[Column]) -> DataFrame:
    """One kind of table, of all shards: its samples' rows."""
    names = [metadata_name(p.shard) if stage is None else sidecar_name(p.shard, stage) for p in pieces]
    types = dict.fromkeys(_keys(stage), pa.string()) | {column.field: column.type for column in columns}
    paths = [str(piece.storage.local_path(name)) for piece, name in zip(pieces, names, strict=True)]
    reader = spark.read.schema(spark_schema(pa.schema(list(types.items()))))
    # Names of files are no patterns; and a page that fails its checksum is an error, as it is for us.
    reader = reader.options(**{"__globPaths__": "false", "parquet.page.verify-checksum.enabled": "true"})
    suffix = metadata_name("") if stage is None else sidecar_name("", stage)
    address = sql.expr(f"substr(_metadata.file_path, 1, length(_metadata.file_path) - {len(suffix)})").alias(_ADDRESS)
    wanted = [sql.col(_quoted(column.field)).alias(column.name) for column in columns]
    success = [(sql.col("status") == SUCCESS).alias(_SUCCEEDED)] if stage is None else []
    with _listed_here(spark):
        files = reader.parquet(*paths)
    table = files.select(address, sql.col(_keys(stage)[0]).alias(KEY), *wanted, *success)
    return table.where(_SUCCEEDED).drop(_SUCCEEDED) if success else table


@contextlib.contextmanager
def _listed_here(spark: SparkSession) -> Iterator[None]:
    """Spark would start a job to look at more than 32 files, with a task for each; they are known to be there."""
    before = spark.conf.get(_LISTING_JOB)
    spark.conf.set(_LISTING_JOB, str(2**31 - 1))
    try:
        yield
    finally:
        spark.conf.set(_LISTING_JOB, before)


def _shard(folder: str) -> "sql.Column":
    """From its tables' address, which Spark gives as file:/folder/00000 with odd letters as %20."""
    plain = f"url_decode(replace({_ADDRESS}, '+', '%2B'))"
    return sql.expr(f"substr({plain}, {len('file:' + folder) + 2})")


def _keys(stage: str | None) -> list[str]:
    return ["key", "status"] if stage is None else [KEY]


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


def _check_names(given: Sequence[str], added: Sequence[str]) -> None:
    if not {SHARD, KEY} <= set(given):
        raise UsageError(f"rows: has no {SHARD} and {KEY}; take them from to_spark_table, and keep them")
    twice = [name for name, times in Counter([*given, *added]).items() if times > 1]
    if twice:
        raise UsageError(f"rows: {', '.join(twice)} would be there twice; rename or drop it, or select without it")


def _fetched(
    known: "Broadcast[dict[str, Piece]]", names: Sequence[str], schema: pa.Schema, batches: Batches
) -> Batches:
    for batch in batches:
        for shard, rows in _runs(batch.rename_columns(list(names))):
            piece = known.value.get(shard)
            if piece is None:
                raise JoinError(f"the dataset has no shard {shard!r}; take rows from its own to_spark_table")
            yield from _with_members(piece, rows, schema)


def _runs(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Neighbours of one shard."""
    first = 0
    for shard, group in itertools.groupby(batch[SHARD].to_pylist()):
        rows = len(list(group))
        yield str(shard), batch.slice(first, rows)
        first += rows


def _with_members(piece: Piece, rows: pa.RecordBatch, schema: pa.Schema) -> Batches:
    index = cached_index(piece.storage, piece.shard, piece.tar, piece.identity)
    numbers = pc.index_in(rows[KEY], value_set=index.keys)
    if numbers.null_count:
        key = rows[KEY].filter(pc.is_null(numbers))[0]
        raise JoinError(f"{piece.url}: has no sample {key}; take rows from the dataset's own to_spark_table")
    only = tuple(np.unique(numbers.to_numpy()).tolist())
    for batch in read_for_jvm(replace(piece, only=only)):
        places = pc.index_in(rows[KEY], value_set=batch[KEY])
        kept, found = rows.filter(pc.is_valid(places)), places.drop_null()
        in_order = found.equals(pa.array(range(batch.num_rows), found.type))
        members = (batch if in_order else batch.take(found)).drop_columns([KEY])
        both = [*kept.columns, *members.columns], [*kept.schema.names, *members.schema.names]
        yield in_spark_types(pa.record_batch(*both).select(schema.names), schema, piece.url)
