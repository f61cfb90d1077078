"""Columns of a batch: the values that Arrow has, as arrays of their own wherever they stack."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.read.feed.batches.stacking import stacked, stacked_column

VECTOR = pa.list_(pa.float32(), 3)
ARRAYS = [
    (pa.int64(), [3, -1, 2**60], np.int64, (3,)),
    (pa.uint8(), [0, 255], np.uint8, (2,)),
    (pa.float16(), [0.5, 2.0], np.float16, (2,)),
    (pa.float64(), [0.1, 1e300], np.float64, (2,)),
    (pa.bool_(), [True, False, True], np.bool_, (3,)),
    (VECTOR, [[1, 2, 3], [4, 5, 6]], np.float32, (2, 3)),
    (pa.list_(pa.float16(), 2), [[1, 2]], np.float16, (1, 2)),
    (pa.list_(pa.int32()), [[1, 2], [3, 4]], np.int32, (2, 2)),
    (pa.large_list(pa.float32()), [[1], [3]], np.float32, (2, 1)),
]
LISTS = [
    (pa.string(), ["a", None, "größe"]),
    (pa.int64(), [1, None]),
    (pa.bool_(), [None, True]),
    (pa.list_(pa.int64(), 2), [[1, 2], None]),
    (pa.list_(pa.string()), [["a"], [], None]),
    (pa.struct([("x", pa.int64())]), [{"x": 1}, None]),
    (pa.timestamp("s"), pa.array([0, 1], pa.timestamp("s")).to_pylist()),
    (pa.null(), [None, None]),
]


def chunked(values, kind, cut: int) -> pa.ChunkedArray:
    """In two chunks, of which each is a slice of more."""
    more = pa.array([*values, *values], kind)
    return pa.chunked_array([more.slice(0, cut), more.slice(len(values) + cut, len(values) - cut)], kind)


@pytest.mark.parametrize(("kind", "values", "dtype", "shape"), ARRAYS)
@pytest.mark.parametrize("cut", [0, 1])
def test_numbers_and_vectors_are_arrays_that_may_be_written_to(kind, values, dtype, shape, cut):
    found = stacked_column(chunked(values, kind, cut))
    assert (found.dtype, found.shape) == (dtype, shape)
    assert found.tolist() == pa.array(values, kind).to_pylist()
    found[...] = 0


@pytest.mark.parametrize(("kind", "values"), LISTS)
def test_all_else_is_a_list_of_python_values(kind, values):
    assert stacked_column(chunked(values, kind, 1)) == values


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_floats_that_are_null_are_nan_in_vectors_too(kind):
    numbers = stacked_column(pa.chunked_array([pa.array([1.0, None], kind)]))
    vectors = stacked_column(pa.chunked_array([pa.array([None, [1.0, None], [3.0, 4.0]], pa.list_(kind, 2)).slice(0)]))
    nothing = stacked_column(pa.chunked_array([pa.array([None, None], pa.list_(kind, 2))]))
    assert np.array_equal(numbers, [1, np.nan], equal_nan=True)
    assert np.array_equal(vectors, [[np.nan] * 2, [1, np.nan], [3, 4]], equal_nan=True)
    assert np.array_equal(nothing, np.full((2, 2), np.nan), equal_nan=True)


def test_lists_of_different_lengths_are_arrays_one_by_one():
    found = stacked_column(pa.chunked_array([pa.array([[1, 2], [], None], pa.list_(pa.int64()))]))
    assert [None if row is None else row.tolist() for row in found] == [[1, 2], [], None]


def test_a_batch_without_samples_has_columns_too():
    assert stacked_column(pa.chunked_array([], pa.float32())).shape == (0,)
    assert stacked_column(pa.chunked_array([], VECTOR)).shape == (0, 3)
    assert stacked_column(pa.chunked_array([], pa.string())) == []
    assert stacked([]) == []


@given(st.lists(st.one_of(st.none(), st.floats(width=32)), max_size=20), st.integers(0, 20))
def test_any_floats_come_as_they_are(values, cut):
    found = stacked_column(chunked(values, pa.float32(), min(cut, len(values))))
    wanted = np.array([np.nan if value is None else value for value in values], np.float32)
    assert np.array_equal(found, wanted, equal_nan=True)
