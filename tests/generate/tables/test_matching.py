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
from tests.generate.tables.tables import in_pandas, pandas_rows, put_three, three_tables, told


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


@given(three_tables())
def test_rows_join_as_in_pandas(tables):
    with tempfile.TemporaryDirectory() as folder:
        rows = in_this_process(put_three(Path(folder), tables))
    assert told(rows) == pandas_rows(*in_pandas(tables))
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
