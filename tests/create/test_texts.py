"""What Arrow takes and Python does not."""

from itertools import pairwise

import pyarrow as pa
import pytest

from tarloom.create.texts import as_text, mended, times_as_text

NANOSECONDS = pa.timestamp("ns")
BAD = [b"fine", b"caf\xe9", None]
MENDED = ["fine", "caf\ufffd", None]


def unchecked(values: list[bytes | None]) -> pa.Array:
    """Texts that are not all UTF-8, as a parquet file may have them."""
    _, offsets, data = pa.array(values, pa.binary()).buffers()
    return pa.StringArray.from_buffers(len(values), offsets, data, pa.array(values, pa.binary()).buffers()[0])


def test_texts_that_are_not_utf8_are_mended_however_deep_they_lie():
    flat = unchecked(BAD)
    columns = {
        "text": (flat, MENDED),
        "list": (pa.ListArray.from_arrays(pa.array([0, 3]), flat), [MENDED]),
        "struct": (
            pa.StructArray.from_arrays([flat, pa.array([b"\xff"] * 3), pa.array([1] * 3)], ["a", "bytes", "n"]),
            [{"a": text, "bytes": b"\xff", "n": 1} for text in MENDED],
        ),
        "map": (pa.MapArray.from_arrays(pa.array([0, 2]), flat[:2], flat[1:]), [list(pairwise(MENDED))]),
        "dictionary": (pa.DictionaryArray.from_arrays(pa.array([0, 1]), flat[:2]), MENDED[:2]),
    }
    for made, expected in columns.values():
        column = pa.chunked_array([made])
        assert mended(column).type == column.type
        assert mended(column).to_pylist() == expected


def test_what_is_sound_stays_the_column_that_it_was():
    days_of_others = pa.array([1], pa.int64()).view(pa.date64())  # no whole day: Arrow calls it invalid
    for made in (pa.array(["a", None]), days_of_others, pa.array([1.5])):
        column = pa.chunked_array([made])
        assert mended(column) is column


@pytest.mark.parametrize("made", [unchecked(BAD), pa.array(BAD, pa.binary()), pa.array(BAD, pa.large_binary())])
def test_bytes_and_texts_become_text(made):
    assert as_text(pa.chunked_array([made])).to_pylist() == MENDED


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (NANOSECONDS, 1, "1970-01-01 00:00:00.000000001"),
        (pa.timestamp("us"), 253_402_300_800_000_000, "10000-01-01 00:00:00.000000"),
        (pa.list_(NANOSECONDS), [1], ["1970-01-01 00:00:00.000000001"]),
        (pa.struct([("a", pa.large_list(NANOSECONDS))]), {"a": [None]}, {"a": [None]}),
        (pa.map_(pa.string(), NANOSECONDS), [("a", 1)], [("a", "1970-01-01 00:00:00.000000001")]),
    ],
)
def test_times_that_python_cannot_hold_become_text_however_deep_they_lie(kind, value, expected):
    table = pa.table({"number": [1], "time": pa.array([value], kind)})
    assert times_as_text(table).to_pylist() == [{"number": 1, "time": expected}]


def test_times_in_dictionaries_become_text():
    made = pa.array([1, 1], NANOSECONDS).dictionary_encode()
    assert times_as_text(pa.table({"time": made}))["time"].to_pylist() == ["1970-01-01 00:00:00.000000001"] * 2
