"""Ray Data makes rows of tables: however it joins them, the rows are pandas's, in order, in the same bytes."""

import datetime
import decimal
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from tarloom.errors import UsageError
from tarloom.format.storage import open_storage
from tarloom.generate.tables.config import TableConfig
from tarloom.generate.tables.prompts import PromptTables
from tests.generate.tables.tables import files_of, in_pandas, made, pandas_rows, put, put_three, three_tables, told

pytestmark = pytest.mark.usefixtures("ray_session")
ROWS = 260


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Prompts with columns of many types and two tables of details, and what pandas makes of them."""
    folder, chance = tmp_path_factory.mktemp("tables"), np.random.default_rng(3)
    odd = {
        "list": pa.array([[n, None] if n % 3 else None for n in range(ROWS)], pa.list_(pa.int32())),
        "struct": pa.array(
            [{"x": n, "y": None} for n in range(ROWS)], pa.struct([("x", pa.int16()), ("y", pa.date32())])
        ),
        "time": pa.array([datetime.datetime(2020, 1, 1, 0, 0, n % 60) for n in range(ROWS)], pa.timestamp("ns", "UTC")),
        "price": pa.array([decimal.Decimal(n) / 100 for n in range(ROWS)], pa.decimal128(7, 2)),
        "bytes": pa.array([bytes([n % 256]) for n in range(ROWS)], pa.binary()),
        "vector": pa.array([[n / 2, 0.0] for n in range(ROWS)], pa.list_(pa.float32(), 2)),
        "half": pa.array(np.arange(ROWS, dtype=np.float16)),
    }
    prompts = {
        "n": pa.array(range(ROWS)),
        "animal": pa.array([None if n % 17 == 0 else n % 40 for n in range(ROWS)], pa.int32()),
        **odd,
    }
    animals = {
        "animal": pa.array([None if n % 9 == 0 else str(n % 37) for n in chance.permutation(60)]),
        "kind": pa.array([f"kind ü{n % 5}" for n in range(60)]),
        "weights": pa.array([[n / 4] for n in range(60)], pa.list_(pa.float64())),
    }
    kinds = {"name": pa.array([f"kind ü{n}" for n in (4, 2, 0, 2)]), "colour": pa.array(["red", None, "blue", "green"])}
    config = TableConfig(
        prompts=put(folder / "prompts.parquet", prompts),
        details=(
            f"{put(folder / 'animals.parquet', animals)}:animal",
            f"{put(folder / 'kinds.parquet', kinds)}:kind=name",
        ),
        expand=True,
        derive=("half_price = round(price / 2, 2)", "label = upper(colour) || half_price"),
        template="{n} {label} {time}",
    )
    values = [{name: column.to_pylist() for name, column in table.items()} for table in (prompts, animals, kinds)]
    by = [("animals.parquet", values[1], [("animal", "animal")]), ("kinds.parquet", values[2], [("kind", "name")])]
    return config, pandas_rows(values[0], by)


def test_small_tables_are_looked_up(tables, tmp_path):
    config, expected = tables
    rows = made(config, tmp_path)
    derived = ("half_price", "label")
    assert [{name: value for name, value in row.items() if name not in derived} for row in told(rows)] == expected
    assert any(row["__error__"] for row in rows)
    assert len({row["__key__"] for row in rows}) == len(rows) > ROWS
    assert rows[0]["__key__"] == "000000000_0"


def test_ray_joins_large_tables_to_the_same_bytes(tables, tmp_path):
    pytest.importorskip("polars", reason="Ray Data joins with polars")
    config, _ = tables
    made(config, tmp_path / "small")
    made(config, tmp_path / "large", small_bytes=0)
    assert files_of(tmp_path / "small") == files_of(tmp_path / "large") != {}


@pytest.mark.long
@given(three_tables())
@settings(max_examples=3)
def test_any_tables_are_joined_by_ray_as_by_pandas(tables):
    pytest.importorskip("polars", reason="Ray Data joins with polars")
    with tempfile.TemporaryDirectory() as folder:
        config = put_three(Path(folder), tables)
        rows = made(config, Path(folder, "made"), rows_per_shard=5, small_bytes=0)
    assert told(rows) == pandas_rows(*in_pandas(tables))


def test_rows_of_all_files_keep_their_order(tmp_path):
    for name, rows in (("b", "3,z"), ("a", "1,x\n2,y\n,")):
        (tmp_path / f"{name}.csv").write_text(f"id,prompt\n{rows}\n")
    rows = made(TableConfig(prompts=f"{tmp_path}/*.csv"), tmp_path / "made", rows_per_shard=2)
    assert [(row["__key__"], row["id"], row["prompt"]) for row in rows] == [
        ("000000000", 1, "x"),
        ("000000001", 2, "y"),
        ("000000002", None, None),
        ("000000003", 3, "z"),
    ]
    assert rows[2]["__error__"] == "no_prompt: nothing is left of the template"
    assert [*files_of(tmp_path / "made")] == ["00000.parquet", "00001.parquet"]


def test_a_table_that_is_gone_when_it_is_read_is_told(tmp_path):
    path = Path(put(tmp_path / "prompts.parquet", {"prompt": ["a"]}))
    tables = PromptTables(TableConfig(prompts=str(path)))
    tables.check()
    path.unlink()
    with pytest.raises(UsageError, match=r"prompts\.parquet: cannot be read"):
        tables.write(open_storage(tmp_path / "made"), 10, 5)
