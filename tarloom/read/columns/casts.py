"""Values as another type, where nothing is lost by it: Arrow itself makes inf of 1e300, and true of 5."""

from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.format.arrow_types import Array, ChunkedArray


def as_type(values: ChunkedArray, kind: pa.DataType) -> Array:
    """The same values as this type. Raises ArrowInvalid, ArrowNotImplementedError where they would not be the same."""
    found: Array = values.cast(kind).combine_chunks()
    if values.type != kind and not _survived(values.combine_chunks(), found):
        raise pa.ArrowInvalid(f"as {kind} some values would be others")
    return found


def _survived(values: Array, found: Array) -> bool:
    """Whether the way back leads to the same values."""
    if values.null_count == len(values):
        return True
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    same_sort = pa.types.is_temporal(values.type) == pa.types.is_temporal(found.type)
    return same_sort and _is_same(values, found.cast(values.type))


def _is_same(one: Array, other: Array) -> bool:
    """Whether all values are equal, a NaN to a NaN."""
    if one.equals(other):
        return True
    if pa.types.is_floating(one.type):
        return _without_nan(one).equals(_without_nan(other)) and pc.is_nan(one).equals(pc.is_nan(other))
    if pa.types.is_list(one.type) or pa.types.is_large_list(one.type) or pa.types.is_fixed_size_list(one.type):
        lengths: list[Any] = [pc.list_value_length(each) for each in (one, other)]
        return lengths[0].equals(lengths[1]) and _is_same(*(cast(Any, each).flatten() for each in (one, other)))
    return False


def _without_nan(values: Array) -> Array:
    return cast(Array, pc.if_else(pc.is_nan(values).fill_null(False), pa.scalar(0, values.type), values))
