"""Values of many samples as one array, where they stack; else as a list."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tarloom.format.arrow_types import Array, ChunkedArray


def stacked(values: Sequence[Any]) -> Any:
    """One array where all are arrays of one shape, else a list."""
    shapes = {getattr(value, "shape", None) for value in values}
    return np.stack(values) if len(shapes) == 1 and None not in shapes else list(values)


def stacked_column(column: ChunkedArray) -> Any:
    """Numbers as an array of shape (samples,), vectors as (samples, dimensions); all else as a list of Python values.

    Floats that are null are NaN, in vectors too; a column of other numbers that has nulls is a list with None. Lists of
    different lengths are a list of arrays. Arrays are the caller's own.
    """
    values: Array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return _array(values)


def _array(values: Array) -> Any:
    kind = values.type
    if _is_number(kind) and (not values.null_count or pa.types.is_floating(kind)):
        return values.to_numpy(zero_copy_only=False, writable=True)
    if pa.types.is_fixed_size_list(kind) and _is_number(kind.value_type):
        return _vectors(values, kind.list_size)
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_number(kind.value_type):
        return stacked([None if row is None else _array(row) for row in (scalar.values for scalar in values)])
    return values.to_pylist()


def _vectors(values: Any, size: int) -> Any:
    present = _array(values.flatten())
    if not isinstance(present, np.ndarray):
        return values.to_pylist()
    if not values.null_count:
        return present.reshape(len(values), size)
    if present.dtype.kind != "f":
        return values.to_pylist()
    vectors = np.full((len(values), size), np.nan, present.dtype)
    vectors[values.is_valid().to_numpy(zero_copy_only=False)] = present.reshape(-1, size)
    return vectors


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
