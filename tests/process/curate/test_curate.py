"""Questions over tables: what they say is what plain SQL says of the same rows, whole on disk, or refused by name."""

import json
import random
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tarloom.engines.choose import EngineConfig
from tarloom.errors import PlanMismatch, UsageError
from tarloom.process.curate import work
from tarloom.process.curate.config import CurateConfig
from tarloom.process.curate.job import CurateJob
from tarloom.process.curate.scope import MULTIPLYING
from tests.process.curate.tables import Row, write_tables

KINDS = "class,kind,weight\ncat,animal,1.5\ndog,animal,2\nit's,thing,2\n"
KEYED = {"group_by": ("class",), "aggregate": ("samples=count(*)",)}


def some_rows(count: int, seed: int = 1) -> list[Row]:
    chance = random.Random(seed)
    widths, classes = [None, 64, 128, 300, 600], [None, "cat", "dog", "it's"]
    return [
        (chance.choice(widths), chance.choice(classes), chance.choice([None, chance.random()])) for _ in range(count)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three shards of 50 samples, and a table of kinds beside them."""
    place = tmp_path_factory.mktemp("curated")
    (place / "kinds.csv").write_text(KINDS)
    return write_tables(place / "shards", some_rows(150), shards=3)


def asked(path: Path, *, engine: str = "local", **question) -> pa.Table:
    job = CurateJob(CurateConfig(path=str(path), **question), EngineConfig(engine=engine, num_workers=2))
    job.prepare()
    samples = sum(report.rows for report in job)
    assert samples == job.total
    return job.table


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


QUESTIONS = {
    "groups": {
        "group_by": ("class",),
        "aggregate": (
            "n=count(*)",
            "widths=count(distinct width)",
            "mean=avg(width)",
            "score=sum(clip.score)",
            "least=min(width)",
            "most=max(clip.score)",
            "share=count(*) FILTER (WHERE width > 100) / count(*)",
        ),
    },
    "all of them": {"aggregate": ("n=count(*)", "named=count(class)", "first=min(class)", "total=sum(width)")},
    "a cube of segments": {
        "join": ("{kinds}:class",),
        "segment": ("size=width:100,500:small,medium,large",),
        "derive": ("area=width * width",),
        "where": "width >= 64 AND kinds.kind IS NOT NULL AND area < 300000",
        "group_by": ("kinds.kind", "size"),
        "grouping": "cube",
        "aggregate": ("n=count(*)", "area=sum(area)", "weight=sum(kinds.weight)"),
        "having": "n > 2",
        "order_by": ("n DESC",),
    },
    "top rows": {"select": ("__key__", "clip.score"), "order_by": ("clip.score DESC", "width"), "limit": 7},
    "all rows": {"where": "clip.score > 0.25"},
}


def question(name: str, folder: Path) -> dict[str, object]:
    kinds = str(folder.parent / "kinds.csv")
    asked = dict(QUESTIONS[name])
    return asked | {"join": tuple(each.format(kinds=kinds) for each in asked.get("join", ()))}


@settings(max_examples=25)
@given(
    rows=st.lists(
        st.tuples(
            st.none() | st.integers(0, 3),
            st.none() | st.sampled_from(["cat", "dog", "Dog", ""]),
            st.none() | st.floats(-100, 100, width=32),
        ),
        max_size=30,
    ),
    least=st.integers(0, 3),
    grouping=st.sampled_from(["each", "rollup", "cube"]),
)
@example(rows=[(1, "", 1.0), (0, "", -0.0), (0, "", 0.0)], least=0, grouping="cube")
def test_groups_are_what_plain_sql_makes_of_the_same_rows(tmp_path_factory, rows, least, grouping):
    folder = tmp_path_factory.mktemp("random")
    write_tables(folder, rows, shards=2)
    (folder / "kinds.csv").write_text(KINDS)
    found = asked(
        folder,
        join=(f"kinds={folder / 'kinds.csv'}:class",),
        where=f"width >= {least} AND (kinds.weight IS NULL OR kinds.weight < 2)",
        group_by=("class", "width"),
        grouping=grouping,
        aggregate=(
            "n=count(*)",
            "d=count(DISTINCT clip.score)",
            "s=sum(clip.score)",
            "a=avg(width)",
            "m=max(clip.score)",
        ),
    )
    assert sums(found.to_pylist()) == sums(plainly(rows, least, grouping))


def plainly(rows: list[Row], least: int, grouping: str) -> list[dict[str, object]]:
    database = duckdb.connect()
    types = [("width", pa.int32()), ("class", pa.string()), ("score", pa.float32())]
    database.register(
        "rows",
        pa.Table.from_pylist([dict(zip(("width", "class", "score"), r, strict=True)) for r in rows], pa.schema(types)),
    )
    kinds = "(VALUES ('cat', 1.5), ('dog', 2), ('it''s', 2)) kinds(class, weight)"
    groups = "rows.class, width" if grouping == "each" else f"{grouping}(rows.class, width)"
    which = "" if grouping == "each" else "grouping_id(rows.class, width) AS grouping,"
    return (
        database.sql(
            f"SELECT rows.class AS class, width, {which} count(*) AS n, count(DISTINCT score) AS d, "
            "CAST(sum(score) AS DOUBLE) AS s, avg(width) AS a, max(score) AS m FROM rows LEFT JOIN "
            f"{kinds} ON rows.class = kinds.class WHERE width >= {least} AND (weight IS NULL OR weight < 2) "
            f"GROUP BY {groups}"
        )
        .to_arrow_table()
        .to_pylist()
    )


def sums(rows: list[dict[str, object]]) -> list[str]:
    """As sorted texts, in which sums do not depend on the order of what was summed, and -0.0 is 0.0.

    The largest of zero and minus zero is the one that came first.
    """
    rounded = (
        row
        | {"s": None if row["s"] is None else round(row["s"], 6) + 0.0}
        | {"m": None if row["m"] is None else row["m"] + 0.0}
        for row in rows
    )
    return sorted(json.dumps(row, sort_keys=True) for row in rounded)


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_engine_says_the_same_to_the_last_bit(folder, ray_session, spark_session, monkeypatch, name):
    monkeypatch.setattr(work, "PORTION_ROWS", 20)
    here = asked(folder, **question(name, folder))
    assert here.num_rows > 1 or name == "all of them"
    for engine in ("ray", "spark"):
        assert asked(folder, engine=engine, **question(name, folder)).equals(here), engine


@pytest.mark.parametrize("engine", ["local", "ray", "spark"])
def test_the_answers_samples_are_found_in_their_shards(folder, request, monkeypatch, engine):
    if engine != "local":
        request.getfixturevalue(f"{engine}_session")
    monkeypatch.setattr(work, "PORTION_ROWS", 20)
    options = {"where": "width > 100 AND kinds.weight > 1", "join": (f"{folder.parent / 'kinds.csv'}:class",)}
    question = options | {"order_by": ("clip.score",), "limit": 30, "select": ("__key__",)}
    config = CurateConfig(path=str(folder), **question)
    job = CurateJob(config, EngineConfig(engine=engine, num_workers=2), places=True)
    job.prepare()
    list(job)
    found = [f"{3 * row + int(shard):06d}" for shard, rows in job.samples().items() for row in rows]
    assert sorted(found) == sorted(asked(folder, **question).column("__key__").to_pylist())
    assert len(found) == 30


def test_files_are_the_same_from_every_engine(folder, ray_session, spark_session, tmp_path):
    for engine in ("local", "ray", "spark"):
        asked(folder, engine=engine, output=str(tmp_path / engine / "groups"), partitions=3, **KEYED)
    whole = files(tmp_path / "local")
    assert len([name for name in whole if name.endswith(".parquet")]) > 1
    assert files(tmp_path / "ray") == whole
    assert files(tmp_path / "spark") == whole


def test_wide_rows_are_asked_fewer_at_a_time():
    narrow = pa.schema([("__key__", pa.string()), ("width", pa.int32()), ("tags", pa.list_(pa.string()))])
    wide = narrow.append(pa.field("clip.embedding", pa.list_(pa.float32(), 512)))
    assert work.portion_rows(narrow) == work.PORTION_ROWS
    assert work.portion_rows(wide) * 512 * 4 == work.PORTION_BYTES


def test_partitions_together_have_each_group_once(folder, tmp_path):
    asked(folder, output=str(tmp_path / "parts"), partitions=3, **KEYED)
    found = pads.dataset(tmp_path / "parts", format="parquet").to_table().sort_by("class")
    assert found.equals(asked(folder, **KEYED).sort_by("class"))


def test_folders_are_named_by_what_their_rows_share(folder, tmp_path):
    asked(folder, output=str(tmp_path), select=("__key__", "class"), where="width > 100", partition_by=("class",))
    hive = pads.partitioning(pa.schema([("class", pa.string())]), flavor="hive")
    found = pads.dataset(tmp_path, format="parquet", partitioning=hive).to_table().sort_by("__key__")
    wanted = asked(folder, select=("__key__", "class"), where="width > 100").sort_by("__key__")
    assert found.to_pylist() == wanted.to_pylist()
    assert (tmp_path / "class=it%27s" / "00000.parquet").exists()


def test_values_whose_folder_has_the_same_name_share_its_file(folder, tmp_path):
    text = f"CASE class WHEN 'cat' THEN '' WHEN 'dog' THEN '{work.NULL_FOLDER}' WHEN 'it''s' THEN 'x' END"
    question = {"derive": (f"c={text}",), "select": ("c", "__key__")}
    asked(folder, output=str(tmp_path), partition_by=("c",), **question)
    hive = pads.partitioning(pa.schema([("c", pa.string())]), flavor="hive")
    found = pads.dataset(tmp_path, format="parquet", partitioning=hive).to_table()
    wanted = asked(folder, **question).to_pylist()
    assert {row["__key__"]: row["c"] for row in found.to_pylist()} == {
        row["__key__"]: "x" if row["c"] == "x" else None for row in wanted
    }
    assert found.num_rows == len(wanted)


def test_only_what_is_named_is_read(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    for sidecar in copy.glob("*.clip.parquet"):
        sidecar.write_bytes(b"damaged")
    job = CurateJob(CurateConfig(path=str(copy), where="width > 100", **KEYED))
    job.prepare()
    list(job)
    assert job.summary().columns == ("class",)
    assert job.table.equals(asked(folder, where="width > 100", **KEYED))


def test_an_answer_is_made_anew_to_the_same_bytes_and_what_was_left_of_another_run_goes(folder, tmp_path):
    asked(folder, output=str(tmp_path), **KEYED)
    whole = files(tmp_path)
    (tmp_path / "_tarloom" / "answer.json").unlink()
    (tmp_path / "00007.parquet").write_bytes(b"of a run that was killed")
    asked(folder, output=str(tmp_path), **KEYED)
    assert files(tmp_path) == whole


@pytest.mark.parametrize("partition_by", [(), ("class",)])
def test_files_of_others_in_an_answers_folder_stay(folder, tmp_path, partition_by):
    question = {"select": ("__key__", "class"), "where": "width > 100", "partition_by": partition_by}
    asked(folder, output=str(tmp_path), **question)
    whole = files(tmp_path)
    others = {"notes.md": b"mine", "best/00000.tar": b"mine", "best/00000.parquet": b"mine", "class=cat/mine.csv": b""}
    left = {f"{'class=wolf/' if partition_by else ''}00009.parquet": b"old", ".tmp-00000.parquet-1": b"killed"}
    for name, data in (others | left).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    asked(folder, output=str(tmp_path), **question)
    assert files(tmp_path) == whole | others


def test_an_answer_to_another_question_is_not_mixed_with_the_first(folder, tmp_path):
    asked(folder, output=str(tmp_path), **KEYED)
    with pytest.raises(PlanMismatch, match="another question"):
        asked(folder, output=str(tmp_path), where="width > 100", **KEYED)


def test_a_question_that_cannot_be_answered_leaves_the_output_to_the_mended_one(folder, tmp_path):
    output = str(tmp_path / "out")
    with pytest.raises(UsageError, match="where"):
        asked(folder, output=output, where="CAST(class AS INT) > 3", **KEYED)
    asked(folder, output=output, where="class > 'c'", **KEYED)


def test_a_folder_with_other_files_is_left_alone(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        asked(folder, output=str(tmp_path), **KEYED)


def test_rows_multiply_only_where_that_is_asked_for(folder, tmp_path):
    (tmp_path / "twice.csv").write_text("class,name\ncat,a\ncat,b\n")
    join = {"join": (f"{tmp_path}/twice.csv:class",), "aggregate": ("n=count(*)",)}
    with pytest.raises(UsageError, match="more than one row has class = cat"):
        asked(folder, **join)
    cats = asked(folder, where="class = 'cat'", aggregate=("n=count(*)",))["n"][0].as_py()
    assert asked(folder, expand=True, **join)["n"][0].as_py() == 150 + cats


def test_lists_are_joined_only_where_rows_may_multiply(folder, tmp_path):
    pq.write_table(pa.table({"pair": [["cat", "cat"], ["dog"]], "name": ["a", "b"]}), tmp_path / "lists.parquet")
    copy = shutil.copytree(folder, tmp_path / "copy")
    for path in copy.glob("?????.parquet"):
        table = pq.read_table(path)
        pairs = [[name, name] for name in table["class"].to_pylist()]
        pq.write_table(table.append_column("pair", pa.array(pairs, pa.list_(pa.string()))), path)
    join = {"join": (f"{tmp_path}/lists.parquet:pair",), "aggregate": ("n=count(lists.name)",)}
    with pytest.raises(UsageError, match="pair cannot be proven to be different in every row"):
        asked(copy, **join)
    cats = asked(folder, where="class = 'cat'", aggregate=("n=count(*)",))
    assert asked(copy, expand=True, **join).equals(cats)


def test_a_dataset_without_samples_has_an_answer(tmp_path):
    write_tables(tmp_path / "none", [])
    assert asked(tmp_path / "none", aggregate=("n=count(*)", "w=sum(width)")).to_pylist() == [{"n": 0, "w": None}]
    assert asked(tmp_path / "none", **KEYED).num_rows == 0
    asked(tmp_path / "none", output=str(tmp_path / "rows"), where="width > 1")
    assert pads.dataset(tmp_path / "rows", format="parquet").count_rows() == 0


@pytest.mark.parametrize(
    ("question", "complaint"),
    [
        ({"group_by": ("nope",)}, "group_by: there is no column 'nope'"),
        ({"where": "nope > 1"}, "where: there is no column 'nope'"),
        ({"where": "sum(width) > 1"}, "aggregate"),
        ({"derive": ("width=1",)}, "already"),
        ({"derive": ("noise=random()",)}, "does not always say the same"),
        ({"derive": ("t=unnest([1,2])",)}, r"derive t: unnest\(\) makes several rows of one"),
        ({"order_by": ("main.Unlist([width])",), "select": ("class",)}, r"order_by: unlist\(\) makes"),
        ({"aggregate": ("n=count(*) + unnest([1,2])",)}, r"aggregate n: unnest\(\) makes several rows of one"),
        ({"order_by": ("unnest([n])",), **KEYED, "aggregate": ("n=count(*)",)}, r"unnest\(\) makes"),
        ({"aggregate": ("n=width",)}, "aggregates nothing"),
        ({"aggregate": ("n=median(width)",)}, "aggregates nothing"),
        ({"aggregate": ("n=sum(DISTINCT width)",)}, "DISTINCT for count alone"),
        ({"segment": ("s=width:5,3",)}, "numbers that grow"),
        ({"segment": ("s=width:5:one",)}, "name each once"),
        ({"join": ("kinds.csv",)}, "name the columns to join by"),
        ({"join": ("nowhere.csv:class",)}, r"source nowhere\.csv: nothing there; give a table \(csv, .*\)"),
        ({"order_by": ("width; DROP TABLE x",)}, "order_by"),
        ({"order_by": (" ",)}, r"order_by ' ': write EXPRESSION"),
        ({"derive": ("a=width", "b=nope(a)")}, r": derive 'b=nope\(a\)': Catalog Error"),
        ({"derive": ("a=width",), "where": "a > 'x' AND nope(a)"}, ": where: Catalog Error"),
        ({"segment": ("s=class:1,2",)}, ": segment 's=class:1,2': Binder Error: Cannot compare"),
        ({"order_by": ("width", "nope(class)")}, r": order_by 'nope\(class\)': Catalog Error"),
        ({**KEYED, "order_by": ("nope(samples)",)}, r": order_by 'nope\(samples\)': Catalog Error"),
        ({"aggregate": ("n=count(*)", "s=sum(class)"), "derive": ("a=1",)}, r": aggregate 's=sum\(class\)': Binder E"),
        ({**KEYED, "having": "nope(samples)"}, ": having: Catalog Error"),
        ({"aggregate": ("n=count(*)",), "grouping": "rollup"}, "grouping: for groups; add --group-by"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"having": "n > 1"}, "having: for groups"),
        ({"partition_by": ("class",)}, "add --output"),
        ({"partitions": 2}, "partitions: for a grouped answer"),
    ],
)
def test_a_question_that_cannot_work_is_refused_before_anything_is_read(folder, question, complaint):
    with pytest.raises(UsageError, match=complaint):
        CurateJob(CurateConfig(path=str(folder), **question)).prepare()


@pytest.mark.parametrize(
    ("question", "complaint"),
    [
        ({"derive": ("a=1", "b=CAST(class AS INT)"), "order_by": ("b",)}, r": derive 'b=CAST\(class AS INT\)': "),
        ({"derive": ("a=class",), "where": "CAST(a AS INT) > 3"}, ": where: "),
        ({"order_by": ("width", "CAST(class AS INT)")}, r": order_by 'CAST\(class AS INT\)': "),
        ({"aggregate": ("n=count(*)", "s=sum(CAST(class AS INT))")}, r": aggregate 's=sum\(CAST\(class AS INT\)\)': "),
        ({**KEYED, "having": "CAST(class AS INT) > 3"}, ": having: "),
    ],
)
def test_the_option_that_fails_of_a_value_is_named(folder, question, complaint):
    with pytest.raises(UsageError, match=complaint + "Conversion Error: Could not convert string"):
        asked(folder, **question)


@pytest.mark.parametrize(
    ("question", "complaint"),
    [
        ({"select": ("width",), "partition_by": ("width",)}, "no column is left for the files"),
        ({"select": ("class", "width"), "partition_by": ("width", "class")}, "no column is left for the files"),
        ({"partition_by": ("width", "width")}, "names a column twice"),
        ({"partition_by": ("__portion__",)}, "the answer has no column '__portion__'"),
        ({"derive": ("l=[width]",), "partition_by": ("l",)}, "l is list<.*cannot name folders"),
        ({"derive": ("b=encode(class)",), "partition_by": ("b",)}, "b is binary, which cannot name folders"),
        ({"derive": ("i=to_days(width)",)}, r"i is .*interval, which parquet cannot hold; .*epoch\(\.\.\.\)"),
        ({"derive": ("i=[{'a': to_days(width)}]",)}, "i is list<.*which parquet cannot hold"),
    ],
)
def test_folders_that_would_lose_rows_and_values_that_files_cannot_hold_are_refused_before_any_work(
    folder, tmp_path, question, complaint
):
    with pytest.raises(UsageError, match=complaint):
        asked(folder, output=str(tmp_path / "out"), **question)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"engine": "ray", "cpus_per_worker": 2}, "cpus_per_worker is for a copy of samples: add --to-shards"),
        ({"engine": "ray-data", "gpus_per_worker": 0.5}, "gpus_per_worker is for a copy of samples"),
        ({"max_failed": 1}, "max_failed is for a copy of samples"),
        ({"ray_address": "auto"}, "ray_address is for Ray: add --engine ray"),
        ({"engine": "spark", "num_workers": "1,8"}, "a single number"),
    ],
)
def test_an_option_of_the_engine_that_would_do_nothing_is_refused(folder, options, complaint):
    with pytest.raises(UsageError, match=complaint):
        CurateJob(CurateConfig(path=str(folder)), EngineConfig(**options)).prepare()


def test_an_engine_for_the_copy_of_the_answers_samples_may_have_all_its_options(folder):
    run_on = EngineConfig(engine="ray", cpus_per_worker=2, max_failed=1)
    CurateJob(CurateConfig(path=str(folder), where="width > 1"), run_on, places=True).prepare()


def test_every_function_that_makes_several_rows_of_one_is_known():
    macros = "SELECT function_name FROM duckdb_functions() WHERE function_type = 'macro' AND contains("
    found = duckdb.connect(":memory:").execute(f"{macros}lower(macro_definition), 'unnest(')").fetchall()
    assert {name for (name,) in found} | {"unnest", "unlist"} == MULTIPLYING


def test_columns_of_different_kinds_are_not_joined(folder):
    with pytest.raises(UsageError, match="join columns of one kind"):
        asked(folder, join=(f"{folder.parent}/kinds.csv:width=class",))
