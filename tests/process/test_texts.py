"""What models read of a row, whatever its column holds."""

from datetime import datetime

import pyarrow as pa
import pytest

from tarloom.process.texts import texts_of
from tests.create.test_texts import unchecked

BAD = [b"fine", b"caf\xe9", None]
MENDED = ["fine", "caf\ufffd", None]


@pytest.mark.parametrize(
    "column",
    [
        unchecked(BAD),
        pa.array(BAD, pa.binary()),
        pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), unchecked(BAD)),
    ],
    ids=["text", "bytes", "dictionary"],
)
def test_what_is_not_utf8_costs_a_few_characters(column):
    assert texts_of(column) == MENDED


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array([1999, None]), ["1999", None]),
        (pa.array([0.5, 2.0]), ["0.5", "2.0"]),
        (pa.array([["a", "b"], []]), ["['a', 'b']", "[]"]),
        (pa.array([datetime(2026, 1, 2)], pa.timestamp("us")), ["2026-01-02 00:00:00"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_other_values_are_written_as_python_writes_them(column, texts):
    assert texts_of(column) == texts


def test_a_time_that_python_cannot_hold_is_written_by_arrow_and_leaves_the_others_as_they_are():
    column = pa.array([0, 253_402_300_800_000_000, None], pa.timestamp("us"))
    assert texts_of(column) == ["1970-01-01 00:00:00", "10000-01-01 00:00:00.000000", None]
    assert texts_of(column.slice(1)) == ["10000-01-01 00:00:00.000000", None]


def test_times_and_texts_that_python_cannot_hold_may_lie_in_one_value():
    column = pa.StructArray.from_arrays([unchecked([b"\xff"]), pa.array([1 << 60], pa.timestamp("us"))], ["a", "b"])
    assert "\ufffd" in texts_of(column)[0]


def test_a_time_in_a_zone_that_nobody_knows_is_no_text():
    assert texts_of(pa.array([1, None], pa.timestamp("us", tz="Nowhere/Zone"))) == [None, None]
