"""Spark with tarloom beside Spark over tarfile, as its users read tars: one partition a tar, samples by flatMap.

What is timed begins with opening the dataset. A session is started before, and warm: both sides have read a few shards
in it again and again, as the first seconds of a JVM's life say nothing of the hours that follow.
"""

import json
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sql

import tarloom
from benchmarks.reading.compare import Comparison
from benchmarks.reading.data import tars
from tarloom.engines.spark_session import start
from tarloom.read.spark.frames import map_in_spark

MEMBERS = ("jpg", "json", "txt")
SCHEMA = "key string, jpg binary, json binary, txt binary"
WARM_SECONDS = 15
WARM_FOR_QUESTIONS = 60
"""Small questions are the session's own work, most of all: they take 0.2 s when it has run for 15 seconds, half of that
after 60, when the JVM has compiled what it does."""
WARM_SHARDS = 5
QUESTIONS = 20
"""That are asked of a table: one takes about as long as a hiccup of the machine."""


def as_it_is(spark: SparkSession, folder: str) -> str:
    return folder


def warm(
    read: Callable[[SparkSession, Any], int],
    folder: str,
    prepare: Callable[[SparkSession, str], Any] = as_it_is,
    *,
    times: int = 1,
    seconds: float = WARM_SECONDS,
) -> Iterator[int | None]:
    """What compare.py times: prepares and reads some shards until all is warm, prepares, says that it is ready, reads
    all."""
    spark = start(2, {})
    try:
        with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-") as small:
            for tar in tars(folder)[:WARM_SHARDS]:
                for path in Path(folder).rglob(f"{Path(tar).stem}.*"):
                    link(path, Path(small, path.relative_to(folder)))
            prepared, until = prepare(spark, small), time.monotonic() + seconds
            while time.monotonic() < until:
                read(spark, prepared)
        prepared = prepare(spark, folder)
        yield None
        yield sum(read(spark, prepared) for _ in range(times))
    finally:
        spark.stop()


def link(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(path)


def counted(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    rows = size = 0
    for batch in batches:
        rows += batch.num_rows
        size += sum(pc.sum(pc.binary_length(batch[member])).as_py() for member in MEMBERS)
    yield pa.record_batch([pa.array([rows]), pa.array([size])], names=["rows", "bytes"])


def samples(path: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """A tar's samples, as tarfile gives them."""
    with tarfile.open(path) as tar:
        found: tuple[str, dict[str, bytes]] | None = None
        for member in tar:
            key, _, extension = member.name.partition(".")
            if found is None or found[0] != key:
                if found is not None:
                    yield found
                found = key, {}
            file = tar.extractfile(member)
            assert file is not None
            found[1][extension] = file.read()
        if found is not None:
            yield found


def rdd(spark: SparkSession, folder: str) -> Any:
    paths = tars(folder)
    return spark.sparkContext.parallelize(paths, len(paths)).flatMap(samples)


def summed(frame: DataFrame) -> int:
    """Rows of a data frame; their bytes are looked at by Spark, so that they cross into it."""
    rows, size = frame.agg(sql.count("*"), sum(sql.sum(sql.length(member)) for member in MEMBERS)).collect()[0]
    assert size > rows
    return int(rows)


def read_mapped(spark: SparkSession, folder: str) -> int:
    found = map_in_spark(tarloom.open(folder), spark, counted, "rows long, bytes long").collect()
    assert sum(row["bytes"] for row in found) > 0
    return sum(row["rows"] for row in found)


def read_rdd(spark: SparkSession, folder: str) -> int:
    one = rdd(spark, folder).map(lambda sample: (1, sum(map(len, sample[1].values()))))
    return int(one.reduce(lambda left, right: (left[0] + right[0], left[1] + right[1]))[0])


def read_frame(spark: SparkSession, folder: str) -> int:
    return summed(tarloom.open(folder).to_spark(spark))


def read_rdd_frame(spark: SparkSession, folder: str) -> int:
    rows = rdd(spark, folder).map(lambda sample: (sample[0], *(sample[1].get(member) for member in MEMBERS)))
    return summed(spark.createDataFrame(rows, SCHEMA))


def table(spark: SparkSession, folder: str) -> DataFrame:
    return tarloom.open(folder).select("original_width").to_spark_table(spark)


def make_and_ask_table(spark: SparkSession, folder: str) -> int:
    return grouped(spark, table(spark, folder))


def aggregate_rdd(spark: SparkSession, folder: str) -> int:
    widths = rdd(spark, folder).map(lambda sample: json.loads(sample[1]["json"])["original_width"] // 256)
    return sum(widths.countByValue().values())


def grouped(spark: SparkSession, rows: DataFrame) -> int:
    """Samples, by their pictures' width in steps of 256."""
    classes = rows.groupBy(sql.expr("original_width div 256")).count().collect()
    return sum(row["count"] for row in classes)


def mapped(folder: str) -> Iterator[int | None]:
    yield from warm(read_mapped, folder)


def mapped_rdd(folder: str) -> Iterator[int | None]:
    yield from warm(read_rdd, folder)


def frame(folder: str) -> Iterator[int | None]:
    yield from warm(read_frame, folder)


def frame_rdd(folder: str) -> Iterator[int | None]:
    yield from warm(read_rdd_frame, folder)


def first_question(folder: str) -> Iterator[int | None]:
    yield from warm(make_and_ask_table, folder)


def further_question(folder: str) -> Iterator[int | None]:
    yield from warm(grouped, folder, table, times=QUESTIONS, seconds=WARM_FOR_QUESTIONS)


def aggregate_of_tars(folder: str) -> Iterator[int | None]:
    yield from warm(aggregate_rdd, folder)


def aggregates_of_tars(folder: str) -> Iterator[int | None]:
    yield from warm(aggregate_rdd, folder, times=QUESTIONS, seconds=WARM_FOR_QUESTIONS)


COMPARISONS = (
    Comparison(name="Spark, bytes in Python", wanted=4, ours=mapped, theirs=mapped_rdd),
    Comparison(name="Spark, bytes in a data frame", wanted=2, ours=frame, theirs=frame_rdd),
    Comparison(name="Spark, a table and an aggregate", wanted=4, ours=first_question, theirs=aggregate_of_tars),
    Comparison(name="Spark, an aggregate of a table", wanted=20, ours=further_question, theirs=aggregates_of_tars),
)
