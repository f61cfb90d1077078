"""Data frames of samples: what crosses into Spark is what the shards hold, and Spark's own SQL chooses it."""

import os
import shutil

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import tarloom
from tarloom.errors import CorruptShard, EngineError, JoinError, StageMismatch, UsageError
from tests.format.raw import packed_dataset, write_parquet, write_tar
from tests.read.sample_sets import BROKEN, odd_samples, packed_samples, pictured_samples, pixels_of

pytest.importorskip("pyspark")

from pyspark.sql import functions as sql

from tarloom.read.spark.frames import even_tasks, map_in_spark, spark_error
from tarloom.read.spark.source import TarloomSource
from tarloom.read.spark.table import fetch

ODD_FOLDER = "größe [1]{a,b}*? #50%+x:y'\"$"


@pytest.fixture
def spark(spark_session):
    spark_session.dataSource.register(TarloomSource)
    return spark_session


@pytest.fixture
def pushing(spark):
    """Spark hands filters to data sources in Python."""
    spark.conf.set("spark.sql.python.filterPushdown.enabled", "true")
    yield spark
    spark.conf.unset("spark.sql.python.filterPushdown.enabled")


def members_of(rows, *names):
    return sorted((row["__key__"], {n: bytes(row[n]) for n in names if row[n] is not None}) for row in rows)


def test_a_data_frame_holds_members_and_columns_byte_for_byte(spark, packed):
    frame = tarloom.open(packed).select("jpg", "txt", "caption.text", "clip.embedding").to_spark(spark)
    rows = frame.collect()
    assert frame.columns == ["__key__", "jpg", "txt", "caption.text", "clip.embedding"]
    wanted = [(key, {"jpg": members["jpg"], "txt": members["txt"]}) for key, members in packed_samples(2)]
    assert members_of(rows, "jpg", "txt") == sorted(wanted)
    assert {(row["caption.text"], tuple(row["clip.embedding"])) for row in rows} == {("hello", (0.5,) * 4)}


def test_a_view_comes_to_spark_as_it_is_filtered_decoded_and_with_its_errors(spark, pictured):
    dataset = tarloom.open(pictured).select("png", "width").where("width >= 10").decoding("rgb").on_error("row")
    rows = {row["__key__"]: row for row in dataset.to_spark(spark).collect()}
    assert sorted(rows) == [key for key, _, values in pictured_samples() if values["width"] >= 10]
    for key, row in rows.items():
        if int(key) == BROKEN:
            assert row["png"] is None
            assert "not_an_image" in row["__error__"]
        else:
            assert row["__error__"] is None
            assert (row["png"]["height"], row["png"]["width"]) == pixels_of(int(key)).shape[:2]
            assert bytes(row["png"]["data"]) == pixels_of(int(key)).tobytes()


def test_a_function_runs_where_the_samples_are_read_and_they_do_not_enter_the_jvm(spark, packed):
    def sizes(batches):
        for batch in batches:
            lengths = pc.binary_length(batch["jpg"])
            yield pa.record_batch([batch["__key__"], batch["caption.text"], lengths], names=["key", "text", "size"])

    dataset = tarloom.open(packed).select("jpg", "caption.text")
    found = map_in_spark(dataset, spark, sizes, "key string, text string, size int", batch_rows=7).collect()
    wanted = [(key, "hello", len(members["jpg"])) for key, members in packed_samples(2)]
    assert sorted(map(tuple, found)) == sorted(wanted)


@pytest.mark.parametrize("size", [1, 1_000, 7_000, 1 << 40])
def test_tasks_hold_every_piece_once_and_are_even_within_one(packed, size):
    dataset = tarloom.open(packed)
    tasks, pieces = even_tasks(dataset, size), dataset.pieces(size)
    assert [piece for task in tasks for piece in task] == pieces
    largest = max(piece.bytes for piece in pieces)
    assert all(sum(piece.bytes for piece in task) <= size + largest for task in tasks)


@pytest.mark.parametrize("kind", [CorruptShard, EngineError, JoinError, StageMismatch, UsageError])
def test_what_a_task_raised_of_ours_is_raised_again(kind):
    told = (
        f"Job aborted\n  Traceback (most recent call last):\ntarloom.errors.{kind.__name__}: shard 00000: odd\n at org"
    )
    error = spark_error(RuntimeError(told))
    assert (type(error), str(error)) == (kind, "shard 00000: odd")


def test_a_form_that_no_data_frame_holds_is_refused(spark, pictured):
    with pytest.raises(UsageError, match="decode it to rgb"):
        tarloom.open(pictured).decoding("pil").to_spark(spark)


@pytest.mark.parametrize("select", [(), ("url",), ("caption.text",), ("url", "width", "caption.text", "clip.status")])
def test_a_table_holds_the_columns_that_the_read_path_joins(spark, packed, select):
    dataset = tarloom.open(packed)
    table = dataset.select(*select).to_spark_table(spark) if select else dataset.to_spark_table(spark)
    names = table.columns[2:]
    assert "clip.embedding" not in names  # half floats, which Spark does not read
    wanted = {row["__key__"]: [row[name] for name in names] for row in dataset.select(*names)}
    rows = table.collect()
    assert {row["__key__"]: [row[name] for name in names] for row in rows} == wanted
    assert {row["__shard__"] for row in rows} == {"00000", "00001"}
    plan = table._jdf.queryExecution().toString()
    assert "MapInArrow" not in plan
    assert ("Join" in plan) == (len({name.rpartition(".")[0] for name in names}) > 1)


def test_a_table_that_spark_cannot_read_itself_comes_through_the_read_path(spark, packed, pictured):
    vectors = tarloom.open(packed).select("clip.embedding").to_spark_table(spark)
    assert {tuple(row["clip.embedding"]) for row in vectors.collect()} == {(0.5,) * 4}
    filtered = tarloom.open(pictured).select("width").where("width >= 10").to_spark_table(spark)
    wanted = [values["width"] for *_, values in pictured_samples() if values["width"] >= 10]
    assert sorted(row["width"] for row in filtered.collect()) == sorted(wanted)
    nulled = tarloom.open(pictured).select("score.value").joining("null").to_spark_table(spark)
    assert nulled.where("`score.value` IS NULL").count() == 1


def test_a_table_is_refused_where_a_sample_has_no_row(spark, pictured):
    with pytest.raises(JoinError, match=r"00001\.score\.parquet: .*000000027"):
        tarloom.open(pictured).to_spark_table(spark)


def test_rows_of_no_sample_are_in_no_table(spark, tmp_path):
    write_tar(tmp_path / "a.tar", [("1", {"txt": b"one"}), ("2", {"txt": b"two"})])
    columns = {"key": ["2", "1", "3"], "status": ["success"] * 3, "width": [2, 1, 3]}
    write_parquet(tmp_path / "a.parquet", columns)
    rows = tarloom.open(tmp_path).to_spark_table(spark).collect()
    assert sorted((row["__key__"], row["width"]) for row in rows) == [("1", 1), ("2", 2)]


def test_members_are_fetched_for_what_sql_leaves(spark, packed):
    dataset = tarloom.open(packed)
    kept = dataset.to_spark_table(spark).where("substring(url, -5, 1) = '4'").withColumnRenamed("url", "an.url")
    kept = kept.select("`an.url`", "__key__", "__shard__")
    rows = dataset.select("jpg", "caption.text").to_spark(spark, rows=kept.union(kept)).collect()
    wanted = [(key, {"jpg": members["jpg"]}) for key, members in packed_samples(2) if key.endswith("4")]
    assert members_of(rows, "jpg") == sorted(wanted * 2)
    assert all(row["an.url"] == f"http://127.0.0.1/{row['__key__']}.jpg" for row in rows)
    assert {row["caption.text"] for row in rows} == {"hello"}


def test_what_is_fetched_is_filtered_and_decoded_as_the_view_says(spark, pictured):
    dataset = tarloom.open(pictured)
    table = dataset.select("width").to_spark_table(spark)
    view = dataset.select("png").where("score.value > 1.5").joining("skip").decoding("rgb").on_error("skip")
    rows = fetch(view, table, partitions=1).collect()
    wanted = [k for k, _, v in pictured_samples() if (v["score.value"] or 0) > 1.5 and int(k) != BROKEN]
    assert sorted(row["__key__"] for row in rows) == wanted
    assert all(bytes(row["png"]["data"]) == pixels_of(int(row["__key__"])).tobytes() for row in rows)


@pytest.mark.parametrize(
    ("shard", "key", "message"), [("00000", "nobody", r"00000\.tar: has no sample nobody"), ("9", "1", "no shard '9'")]
)
def test_a_row_of_no_sample_ends_a_fetch_with_an_error_that_names_it(spark, packed, shard, key, message):
    rows = spark.createDataFrame([(shard, key)], "__shard__ string, __key__ string")
    with pytest.raises(Exception, match=message):
        tarloom.open(packed).to_spark(spark, rows=rows).collect()


def test_rows_to_fetch_must_say_which_and_may_not_have_a_name_twice(spark, packed):
    dataset = tarloom.open(packed)
    with pytest.raises(UsageError, match="no __shard__ and __key__"):
        dataset.to_spark(spark, rows=spark.range(1))
    with pytest.raises(UsageError, match="url would be there twice"):
        dataset.select("jpg", "url").to_spark(spark, rows=dataset.to_spark_table(spark))


def test_names_may_hold_what_patterns_and_urls_are_made_of(spark, tmp_path):
    packed_dataset(tmp_path / ODD_FOLDER, shards=1, rows=4, failed=(1,))
    dataset = tarloom.open(tmp_path / ODD_FOLDER)
    kept = dataset.to_spark_table(spark).where("`caption.text` = 'hello'")
    assert dataset.select("txt").to_spark(spark, rows=kept.select("__shard__", "__key__")).count() == 3


def test_a_folder_that_is_named_by_its_neighbour_is_the_one_that_all_read(spark, tmp_path):
    packed_dataset(tmp_path / "deep" / "set", shards=2, rows=4, failed=(1,))
    packed_dataset(tmp_path / "set", shards=1, rows=9, failed=())  # there is more in it
    (tmp_path / "deep" / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "folder")
    dataset = tarloom.open(f"{tmp_path}/link/../set")
    kept = dataset.to_spark_table(spark).where("`caption.text` = 'hello'")
    assert sorted(map(tuple, kept.groupBy("__shard__").count().collect())) == [("00000", 3), ("00001", 3)]
    rows = dataset.select("txt").to_spark(spark, rows=kept.select("__shard__", "__key__")).collect()
    assert sorted(row["__key__"] for row in rows) == [sample["__key__"] for sample in dataset]


def test_odd_names_and_missing_members_come_through_the_data_source(spark, tmp_path):
    write_tar(tmp_path / "odd.tar", odd_samples())
    frame = spark.read.format("tarloom").load(str(tmp_path))
    wanted = [(key, {name.lower(): data for name, data in members.items()}) for key, members in odd_samples()]
    assert members_of(frame.collect(), *frame.columns[1:]) == sorted(wanted)


def test_options_of_the_data_source_choose_rows_and_forms(spark, pictured):
    reader = spark.read.format("tarloom").options(where="width >= 10", decode="rgb,json=text", on_error="skip")
    frame = reader.load(str(pictured))
    assert dict(frame.dtypes)["json"] == "string"
    wanted = [k for k, _, v in pictured_samples() if v["width"] >= 10 and int(k) != BROKEN]
    assert sorted(row["__key__"] for row in frame.select("__key__", "png").collect()) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "ignore"}, "on_error must be one of raise, skip, row, not 'ignore'"),
        ({"join": "left"}, "join must be one of error, skip, null, not 'left'"),
        ({"decode": "bmp"}, "nothing is decoded to 'bmp'"),
        ({"where": "wide > 3"}, "wide"),
        ({"wher": "width > 3"}, "there is no option wher; there are path, where, decode"),
        ({"pushdown": "true"}, r"lose rows; give the condition as option\('where', ...\)"),
    ],
)
def test_options_that_cannot_be_are_refused_before_work_starts(spark, packed, options, message):
    with pytest.raises(Exception, match=message):
        spark.read.format("tarloom").options(**options).load(str(packed))


def test_a_frame_that_is_asked_several_questions_has_all_rows_for_each(pushing, pictured):
    schema = "__key__ string, width long, `score.value` double"
    rows = pushing.read.format("tarloom").schema(schema).option("join", "null").load(str(pictured))
    keys = sorted(row["__key__"] for row in rows.collect())
    widths = {row["__key__"]: row["width"] for row in rows.collect()}
    few, others = (rows.where(condition) for condition in ("width = 10", "width <> 10"))
    assert sorted(row["__key__"] for row in few.collect()) == [key for key in keys if widths[key] == 10]
    assert sorted(row["__key__"] for row in rows.collect()) == keys
    assert sorted(row["__key__"] for row in few.union(others).collect()) == keys


@pytest.mark.parametrize(
    ("condition", "rows"),
    [("width > '3'", 16), ("width = 'unknown'", 0), ("`score.value` = float('0.1')", 1), ("__key__ = 12", 1)],
)
def test_columns_that_spark_wants_in_another_type_are_compared_in_that(pushing, pictured, condition, rows):
    schema = "__key__ int, width string, `score.value` float"
    reader = pushing.read.format("tarloom").schema(schema).option("join", "null")
    assert len(reader.load(str(pictured)).where(condition).collect()) == rows


@pytest.mark.parametrize("condition", ["score.value >= 1.5", "`score.value` >= 1.5"])
def test_a_field_of_a_struct_is_not_the_column_whose_name_has_a_dot(pushing, tmp_path, condition):
    rows = range(4)
    write_tar(tmp_path / "a.tar", [(str(row), {"txt": b"x"}) for row in rows])
    columns = {"score": [{"value": float(row)} for row in rows], "score.value": [3.0 - row for row in rows]}
    write_parquet(tmp_path / "a.parquet", {"key": list(map(str, rows)), "status": ["success"] * 4, **columns})
    schema = "__key__ string, score struct<value:double>, `score.value` double"
    reader = pushing.read.format("tarloom").schema(schema)
    found = reader.load(str(tmp_path)).where(condition).collect()
    assert sorted(row["__key__"] for row in found) == (["2", "3"] if condition[0] == "s" else ["0", "1"])


def test_rows_of_what_is_lost_are_filtered_by_spark(pushing, packed, tmp_path):
    shutil.copytree(packed, tmp_path / "lost")
    lost, before = tmp_path / "lost" / "00001.tar", (tmp_path / "lost" / "00001.tar").stat()
    lost.write_bytes(bytes(before.st_size))
    os.utime(lost, ns=(before.st_atime_ns, before.st_mtime_ns))
    schema = "__key__ string, jpg binary, width int, __error__ string"
    reader = pushing.read.format("tarloom").schema(schema).option("on_error", "row")
    rows = reader.load(str(tmp_path / "lost"))
    assert rows.where("width IS NULL").count() == rows.where("width > 0").count() == 38


def test_counting_and_grouping_read_no_tar(spark, packed, tmp_path):
    packed_dataset(tmp_path, shards=2, rows=10, failed=(3,))
    table = tarloom.open(tmp_path).to_spark_table(spark)
    for tar in tmp_path.glob("*.tar"):
        tar.unlink()
    grouped = table.groupBy("__shard__").agg(sql.count("*"), sql.avg("width")).collect()
    assert sorted(map(tuple, grouped)) == [("00000", 9, 256.0), ("00001", 9, 256.0)]
    assert [row["width"] for row in table.describe("width").collect()] == ["18", "256.0", "0.0", "256", "256"]
