"""Rows of tables find each other as they do in pandas."""

import datetime
import decimal
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.generate.tables.checks import find_tables, fitted
from tarloom.generate.tables.config import TableConfig
from tarloom.generate.tables.matching import Lookup, key_texts, values_of
from tests.generate.tables.tables import pandas_rows, put, told

KEYS = (
    (pa.int64(), st.integers(0, 4)),
    (pa.float64(), st.sampled_from([0.0, -0.0, 1.0, 2.5, 3.0, float("nan")])),
    (pa.string(), st.sampled_from(["0", "1", "2.5", "3", "", "ü", "true", "a b"])),
    (pa.bool_(), st.booleans()),
)
"""Types of columns to join by, whose values are sometimes equal as texts."""


@st.composite
def columns(draw: st.DrawFn, names: tuple[str, ...], *, least: int) -> dict[str, "pa.Array[object]"]:
    """Columns of keys and nulls, and one of numbers."""
    size = draw(st.integers(least, 12))
    found = {}
    for name in names:
        kind, values = draw(st.sampled_from(KEYS))
        found[name] = pa.array(
            draw(st.lists(st.none() | values, min_size=size, max_size=size)), kind, from_pandas=False
        )
    return found


def in_this_process(config: TableConfig) -> list[dict[str, object]]:
    """All rows, made as Ray's tasks make them."""
    found = fitted(config, *find_tables(config), small_bytes=1 << 20)
    rows = []
    for table in found.prompts.tables():
        table = found.recipe.keyed(table)
        for lookup in found.details:
            assert isinstance(lookup, Lookup)
            table = lookup.joined(table)
        rows += found.recipe.finished(table).select(found.recipe.schema.names).to_pylist()
    return rows


@given(
    prompts=columns(("a", "b"), least=1),
    first=columns(("a", "kind"), least=0),
    second=columns(("b_there", "kind"), least=0),
)
def test_rows_join_as_in_pandas(prompts, first, second):
    with tempfile.TemporaryDirectory() as folder:
        prompts |= {"n": pa.array(range(len(prompts["a"])))}
        first |= {"x": pa.array([f"x{n}" for n in range(len(first["a"]))])}
        second |= {"y": pa.array([[n, None] for n in range(len(second["kind"]))], pa.list_(pa.int64()))}
        config = TableConfig(
            prompts=put(Path(folder, "prompts.parquet"), prompts),
            details=(
                f"{put(Path(folder, 'first.parquet'), first)}:a",
                f"{put(Path(folder, 'second.parquet'), second)}:b=b_there,kind",
            ),
            expand=True,
            template="{n} {x} {y}",
        )
        rows = in_this_process(config)
    values = [{name: column.to_pylist() for name, column in table.items()} for table in (prompts, first, second)]
    by = [
        ("first.parquet", values[1], [("a", "a")]),
        ("second.parquet", values[2], [("b", "b_there"), ("kind", "kind")]),
    ]
    assert told(rows) == pandas_rows(values[0], by)
    for row in rows:
        assert row["prompt"] == (None if row["__error__"] else f"{row['n']} {row['x']} {row['y']}")


@given(st.lists(st.none() | st.integers(-(2**53), 2**53)))
def test_whole_numbers_are_found_whatever_their_type(numbers):
    whole, floats = (pa.table({"a": pa.array(numbers, kind)}) for kind in (pa.int64(), pa.float64()))
    assert key_texts(whole, ["a"]).to_pylist() == key_texts(floats, ["a"]).to_pylist()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pa.array([7]), pa.array(["7"])),
        (pa.array([7.0]), pa.array([7], pa.uint8())),
        (pa.array([decimal.Decimal("7.50")]), pa.array([7.5])),
        (pa.array([decimal.Decimal("70")]), pa.array([70])),
        (pa.array([decimal.Decimal("700.00")]), pa.array(["700"])),
        (pa.array([0.1], pa.float64()), pa.array(["0.1"])),
        (pa.array([0.5], pa.float16()), pa.array([0.5], pa.float32())),
        (pa.array([1e300]), pa.array(["1e+300"])),
        (pa.array(["ü"]).dictionary_encode(), pa.array(["ü"], pa.large_string())),
        (pa.array([b"a"]), pa.array(["a"])),
        (pa.array([True]), pa.array(["true"])),
        (pa.array([datetime.date(2020, 2, 1)]), pa.array(["2020-02-01"])),
    ],
    ids=str,
)
def test_equal_values_of_two_types_find_each_other(left, right):
    ours, theirs = (key_texts(pa.table({"a": column}), ["a"]).to_pylist() for column in (left, right))
    assert ours == theirs


@pytest.mark.parametrize("value", [None, float("nan")])
def test_what_is_missing_finds_nothing(value):
    assert key_texts(pa.table({"a": [1.0], "b": pa.array([value], pa.float64())}), ["a", "b"]).to_pylist() == [None]


@given(st.lists(st.text(), min_size=2, max_size=2), st.lists(st.text(), min_size=2, max_size=2))
def test_several_columns_are_told_apart(one, other):
    texts = key_texts(pa.table({"a": [one[0], other[0]], "b": [one[1], other[1]]}), ["a", "b"]).to_pylist()
    assert (texts[0] == texts[1]) == (one == other)
    assert [values_of(text, 2) for text in texts] == [one, other]
