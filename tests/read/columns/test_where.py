"""Conditions in SQL: what names mean, what is refused before anything is read, and which rows pass."""

import os
import pickle
import re
import subprocess
import sys
import threading
from datetime import datetime

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import tarloom
from tarloom.errors import CorruptShard, UsageError
from tarloom.read.columns.evaluate import passing_rows
from tarloom.read.columns.sql import Names, cursor
from tarloom.read.columns.where import UNSTEADY, compile_where
from tarloom.read.view import Column
from tests.format.raw import some_samples, write_parquet, write_tar
from tests.read.sample_sets import packed_samples
from tests.source_tree import ROOT

TYPES = {
    "width": pa.int32(),
    "caption": pa.string(),
    "caption.text": pa.string(),
    "clip.score": pa.float16(),
    "clip.vector": pa.list_(pa.float16(), 2),
    'odd "name"; DROP': pa.int64(),
    "Größe 图": pa.int64(),
    "place": pa.struct([("x", pa.int32()), ("y", pa.struct([("z", pa.int32())]))]),
    "Mixed": pa.int32(),
    "mixed": pa.int32(),
    "nothing": pa.null(),
    "taken": pa.timestamp("us"),
}
COLUMNS = {name: Column(name=name, stage=None, field=name, type=kind) for name, kind in TYPES.items()}
NAMES = Names(what="set: where", columns=COLUMNS, members=("jpg", "txt"))


def passing(sql: str, **values: list) -> list[int]:
    """The rows that pass, of a table with these values in the columns that are used."""
    where = compile_where(sql, NAMES)
    rows = max((len(column) for column in values.values()), default=3)
    columns = {column.name: pa.array(values[column.name], column.type) for column in where.columns}
    table = pa.table({"__key__": [f"k{i}" for i in range(rows)], **columns})
    return passing_rows(where, table, place="somewhere").tolist()


@pytest.mark.parametrize(
    ("sql", "used"),
    [
        ("width >= 256 AND clip.score > 0.3 AND __key__ LIKE '0%'", ["width", "clip.score"]),
        ("caption = caption.text", ["caption", "caption.text"]),
        ("WIDTH > 1 AND Caption.Text IS NULL", ["width", "caption.text"]),
        ("samples.width > 1 AND samples.clip.score > 0", ["width", "clip.score"]),
        ('"odd ""name""; DROP" = 1 OR "Größe 图" = 2', ['odd "name"; DROP', "Größe 图"]),
        ("place.x = 1 AND place.y.z = 2", ["place"]),
        ("Mixed = 1", ["Mixed"]),
        ("len(list_filter(clip.vector, lambda width: width > 0)) > 1", ["clip.vector"]),
        ("caption->>'$.a' = '1'", ["caption"]),
        ("width > 1 -- and nothing else", ["width"]),
        ("age(taken, TIMESTAMP '2024-01-01') > INTERVAL 1 DAY", ["taken"]),
        ("__key__ IN ('a', 'b')", []),
    ],
)
def test_names_are_whole_names_first_and_case_does_not_matter(sql, used):
    assert [column.name for column in compile_where(sql, NAMES).columns] == used


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("jpg IS NULL", "'jpg' is a member of the tars, and SQL sees columns only"),
        ("height > 1", r"no column 'height'; use __key__, width, caption, caption\.text"),
        ("MIXED = 1", "'MIXED' may be Mixed or mixed"),
        ("mixed = 1 AND Mixed = 1", "cannot tell 'mixed' from 'Mixed'"),
        ("width > 'wide'", "Could not convert string 'wide'"),
        ("width", "neither true nor false, but INTEGER"),
        ("width >", "syntax error"),
        (" ", "the condition is empty"),
        ("width > 1;", "syntax error"),
        ("width > 1) UNION SELECT (1", "give one condition"),
        ("width > 1) LIMIT (1", "give one condition"),
        ("width IN (SELECT 1)", "holds no subquery"),
        ("sum(width) OVER () > 1", "holds no window"),
        ("count(*) > 1", "aggregates"),
        ("unnest([width]) = 1", "UNNEST"),
        ("columns(*) > 1", "holds no star"),
        ("width > ?", "without parameters"),
        ("#1 = 1", "holds no positional reference"),
        ("random() < 0.5", r"random\(\) does not always say the same"),
        ("current_localtimestamp() > taken", r"current_localtimestamp\(\) does not always say the same"),
        ("CURRENT_LOCALTIME() > TIME '12:00'", r"current_localtime\(\) does not"),
        ("age(taken) > INTERVAL 1 DAY", r"age\(\) does not"),
        ("pg_sleep(1) IS NULL", r"pg_sleep\(\) does not"),
        ("nosuch(width) > 1", "nosuch does not exist"),
        ("caption = '\0'", "NUL"),
        ("read_text('/etc/passwd') = ''", "read_text"),
    ],
)
def test_what_cannot_work_is_refused_by_name_before_anything_is_read(sql, reason):
    with pytest.raises(UsageError, match=f"^set: where.*{reason}"):
        compile_where(sql, NAMES)


@pytest.mark.parametrize("sql", [None, 5, b"width > 1", ("width > 1",)])
def test_what_is_no_text_is_no_condition(sql):
    with pytest.raises(UsageError, match=r"^set: where: a condition is a text, such as 'width >= 256', not "):
        compile_where(sql, NAMES)


def test_null_is_not_kept():
    assert passing("width > 1", width=[1, 2, None, 3]) == [1, 3]
    assert passing("NOT width > 1", width=[1, 2, None, 3]) == [0]
    assert passing("width IS NULL", width=[1, 2, None, 3]) == [2]
    assert passing("NULL > __key__") == []


def test_half_floats_vectors_structs_and_empty_columns_can_be_asked():
    half = [np.float16(0.25), None, np.float16(0.75)]
    vectors = [[1.0, 0.0], None, [0.0, 1.0]]
    assert passing("clip.score > 0.5", **{"clip.score": half}) == [2]
    assert passing("list_cosine_similarity(clip.vector, [0, 1]) > 0.9", **{"clip.vector": vectors}) == [2]
    assert passing("array_distance(clip.vector::FLOAT[2], [1, 0]::FLOAT[2]) < 1", **{"clip.vector": vectors}) == [0]
    assert passing("clip.vector IS NULL", **{"clip.vector": vectors}) == [1]
    assert passing("place.y.z = 2", place=[{"x": 1, "y": {"z": 2}}, {"x": 1, "y": None}, None]) == [0]
    assert passing("nothing IS NULL", nothing=[None, None]) == [0, 1]


@pytest.mark.parametrize(
    ("kind", "values", "sql"),
    [
        (pa.timestamp("ns", "UTC"), [0, 10**18], "x > '2001-01-01'"),
        (pa.dictionary(pa.int8(), pa.string()), ["a", "b"], "x = 'b'"),
        (pa.large_string(), ["a", "b"], "x = 'b'"),
        (pa.string_view(), ["a", "b"], "x = 'b'"),
        (pa.decimal128(9, 2), [1, 2], "x > 1.5"),
        (pa.date32(), [0, 20000], "x > '2001-01-01'"),
        (pa.bool_(), [False, True], "x"),
        (pa.binary(), [b"a", b"b"], "x = 'b'"),
        (pa.list_(pa.string()), [["a"], ["b"]], "list_contains(x, 'b')"),
        (pa.uint64(), [1, 2**64 - 1], "x > 2"),
    ],
)
def test_columns_of_other_types_can_be_asked(kind, values, sql):
    names = Names(what="", columns={"x": Column(name="x", stage=None, field="x", type=kind)}, members=())
    table = pa.table({"__key__": ["a", "b"], "x": pa.array(values, kind)})
    assert passing_rows(compile_where(sql, names), table, place="").tolist() == [1]


ASKED_ELSEWHERE = """
import sys
import tarloom
from tarloom.read.columns.query import Query
dataset = tarloom.open(sys.argv[1])
conditions = ("taken >= '2024-01-01'", "taken >= TIMESTAMP '2024-01-01'", "year(taken) = 2024",
    "taken::DATE = DATE '2024-01-01'")
for condition in conditions:
    print(*(sample["__key__"] for sample in dataset.where(condition).select()))
(batch,) = Query(dataset, "SELECT year(taken) FROM samples ORDER BY __key__").batches()
print(*batch[0].to_pylist())
"""


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Lima"])
def test_a_time_is_the_same_for_a_condition_whatever_zone_the_machine_is_in(tmp_path, zone):
    write_tar(tmp_path / "00000.tar", some_samples(2))
    taken = [datetime(2024, 1, 1, 0, 30), datetime(2023, 12, 31, 20, 0)]
    columns = {"key": [key for key, _ in some_samples(2)], "status": ["success"] * 2}
    write_parquet(tmp_path / "00000.parquet", columns | {"taken": pa.array(taken, pa.timestamp("us", "UTC"))})
    command = [sys.executable, "-c", ASKED_ELSEWHERE, str(tmp_path)]
    done = subprocess.run(command, env=os.environ | {"TZ": zone}, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["000000000"] * 4 + ["2024 2023"], done.stderr


def test_a_value_that_does_not_fit_is_named_with_its_place():
    with pytest.raises(UsageError, match=r"^somewhere: where .*'x'.*; TRY_CAST makes NULL"):
        passing("CAST(caption AS INTEGER) > 3", caption=["1", "x"])
    assert passing("TRY_CAST(caption AS INTEGER) > 3", caption=["5", "x"]) == [0]


def test_a_condition_is_small_and_travels():
    where = compile_where("width > 1 AND caption.text ILIKE '%dog%'", NAMES)
    assert pickle.loads(pickle.dumps(where)) == where
    assert len(pickle.dumps(where)) < 1000


def test_conditions_are_asked_by_many_threads_at_once():
    where = compile_where("width % 7 = 0", NAMES)
    wrong = []

    def ask(start: int) -> None:
        for rows in range(start, 2000, 100):
            width = np.arange(rows, dtype=np.int32)
            found = passing_rows(where, pa.table({"__key__": width.astype(str), "width": width}), place="")
            if not np.array_equal(found, np.flatnonzero(width % 7 == 0)):
                wrong.append(rows)

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


ASKED_IN_A_FORK = """
import os
import sys
import tarloom
dataset = tarloom.open(sys.argv[1])
print(dataset.count("width = 256"), flush=True)
child = os.fork()
if child == 0:
    print(dataset.count("width > 256"), flush=True)
    os._exit(0)
print(os.waitpid(child, 0)[1], dataset.count("width < 999"))
"""


def test_a_forked_process_asks_a_database_of_its_own(packed):
    command = [sys.executable, "-c", ASKED_IN_A_FORK, str(packed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["76", "0", "0 76"], done.stderr


def test_every_function_that_does_not_always_say_the_same_is_known():
    database = duckdb.connect(":memory:")
    found = database.execute("SELECT function_name FROM duckdb_functions() WHERE stability <> 'CONSISTENT'").fetchall()
    called_steady = {"current_catalog", "current_localtime", "current_localtimestamp", "pg_sleep"}
    assert {name for (name,) in found} | called_steady == UNSTEADY
    macros = "SELECT function_name, macro_definition FROM duckdb_functions() WHERE macro_definition IS NOT NULL"
    for name, definition in database.execute(macros).fetchall():
        assert name in UNSTEADY or not UNSTEADY & {*re.findall(r"(\w+)\(", definition)}, definition


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/tarloom-where-test'",
        "ATTACH '/tmp/tarloom-where-test'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT * FROM secret",
    ],
)
def test_sql_reaches_neither_files_nor_variables(sql):
    secret = pa.table({"x": [1]})
    with cursor() as database, pytest.raises(duckdb.Error):
        database.execute(sql)
    assert secret.num_rows == 1
    assert not os.path.exists("/tmp/tarloom-where-test")


def test_conditions_of_a_dataset_narrow_it_and_say_what_they_are(packed):
    dataset = tarloom.open(packed)
    some = dataset.where("width = 256").where("clip.status = 'success'").where("__key__ < '000000010'")
    keys = [key for key, _ in packed_samples(2) if key < "000000010"]
    assert [sample["__key__"] for sample in some.select("txt")] == keys
    assert len(some) == some.count() == len(keys)
    assert dataset.count("caption.text = 'nobody said that'") == 0
    with pytest.raises(UsageError, match=r"where: 'jpg' is a member.*: __key__, url, key, status"):
        dataset.where("jpg IS NOT NULL")


def test_a_damaged_table_that_may_have_the_column_is_named(tmp_path):
    write_tar(tmp_path / "00000.tar", some_samples(2))
    (tmp_path / "00000.parquet").write_bytes(b"no parquet")
    with pytest.raises(CorruptShard, match=r"00000\.parquet"):
        tarloom.open(tmp_path).where("width > 1")


def test_a_member_hides_a_column_of_its_name(tmp_path):
    samples = some_samples(2)
    write_tar(tmp_path / "00000.tar", samples)
    columns = {"key": [key for key, _ in samples], "status": ["success"] * 2, "txt": ["a", "b"]}
    write_parquet(tmp_path / "00000.parquet", columns)
    with pytest.raises(UsageError, match="'txt' is a member"):
        tarloom.open(tmp_path).where("txt = 'a'")


def test_the_text_of_a_sample_is_its_caption_where_the_metadata_has_that(tmp_path):
    samples = some_samples(2)
    write_tar(tmp_path / "00000.tar", samples)
    columns = {"key": [key for key, _ in samples], "status": ["success"] * 2, "caption": ["a caption", "b"]}
    write_parquet(tmp_path / "00000.parquet", columns)
    dataset = tarloom.open(tmp_path)
    for condition in ("txt = 'a caption'", "samples.TXT LIKE '% caption'"):
        chosen = dataset.where(condition)
        assert [sample["__key__"] for sample in chosen] == [samples[0][0]]
        assert [column.name for column in chosen.condition.columns] == ["caption"]
