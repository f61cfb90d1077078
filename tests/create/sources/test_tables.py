"""Whole tables: all columns of files of one kind, one after the other."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tarloom.create.sources.tables import find_table
from tests.foreign_types import columns_of_it, known_to_arrow


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "csv.gz", "parquet"])
def test_a_table_is_the_same_in_each_format(tmp_path, suffix):
    texts = {
        "csv": "a,b\n1,ü\n,x\n",
        "tsv": "a\tb\n1\tü\n\tx\n",
        "jsonl": '{"a": 1, "b": "ü"}\n{"b": "x"}\n',
        "json": '[{"a": 1, "b": "ü"}, {"b": "x"}]',
    }
    if suffix == "parquet":
        pq.write_table(pa.table({"a": [1, None], "b": ["ü", "x"]}), tmp_path / "t.parquet")
    else:
        text = texts[suffix.removesuffix(".gz")].encode()
        Path(tmp_path, f"t.{suffix}").write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    table = find_table(str(tmp_path / f"t.{suffix}"))
    (rows,) = table.tables()
    assert rows.schema.names == ["__row__", "__error__", "a", "b"]
    assert rows.to_pylist() == [
        {"__row__": 0, "__error__": None, "a": 1, "b": "ü"},
        {"__row__": 1, "__error__": None, "a": None, "b": "x"},
    ]


def test_a_table_whose_texts_are_views_is_one_of_texts(tmp_path):
    kinds = {"a": pa.string_view(), "b": pa.list_(pa.string_view()), "c": pa.binary_view()}
    values = {"a": "ü", "b": ["x"], "c": b"\xff"}
    pq.write_table(
        pa.table({name: pa.array([values[name]], kind) for name, kind in kinds.items()}), tmp_path / "t.parquet"
    )
    table = find_table(str(tmp_path / "t.parquet"))
    (rows,) = table.tables()
    assert rows.select(["a", "b", "c"]).to_pylist() == [values]
    assert [table.schema.field(name).type for name in "ac"] == [pa.string(), pa.binary()]


def test_no_type_in_a_file_runs_code_of_a_package_that_registered_it(tmp_path):
    pq.write_table(columns_of_it(), tmp_path / "t.parquet")
    with known_to_arrow():
        (rows,) = find_table(str(tmp_path / "t.parquet")).tables()
        (row,) = rows.drop_columns(["__row__", "__error__"]).to_pylist()
    lists = {name: [b"x"] for name in ("list", "large", "vector")}
    assert row == {"value": b"x", **lists, "struct": {"part": b"x"}, "map": [("k", b"x")]}


def test_the_files_of_a_folder_are_one_table(tmp_path):
    for name, rows in (("b", "3,0x\n"), ("a", "1,\n2.5,05\n"), ("c", "")):
        Path(tmp_path, f"{name}.csv").write_text(f"a,b\n{rows}")
    Path(tmp_path, "README.md").write_text("no table")
    Path(tmp_path, "_temporary").mkdir()
    Path(tmp_path, "_temporary", "d.csv").write_text("a,b\n9,unfinished\n")
    table = find_table(str(tmp_path))
    assert [(part.file.entry.name, part.first_row) for part in table.parts] == [
        ("a.csv", 0),
        ("b.csv", 2),
        ("c.csv", 3),
    ]
    assert table.schema == pa.schema([("a", pa.float64()), ("b", pa.string())])
    rows = [tuple(row.values()) for found in table.tables() for row in found.to_pylist()]
    assert rows == [(0, None, 1.0, None), (1, None, 2.5, "05"), (2, None, 3.0, "0x")]


def test_a_row_that_is_none_keeps_its_place(tmp_path):
    Path(tmp_path, "a.csv").write_text("a,b\n1,x\n2\n3,y\n")
    (rows,) = find_table(str(tmp_path / "a.csv")).tables()
    assert [row["a"] for row in rows.to_pylist()] == [1, None, 3]
    assert rows["__error__"].to_pylist() == [None, "bad_row: the list has no sound row here", None]
