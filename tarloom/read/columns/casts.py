"""Values as another type, where nothing is lost by it but a float's last digits: Arrow itself makes inf of 1e300, and
true of 5."""

from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.format.arrow_types import Array, ChunkedArray


def as_type(values: ChunkedArray, kind: pa.DataType) -> Array:
    """The same values as this type. Raises ArrowInvalid, ArrowNotImplementedError where they would not be the same."""
    found: Array = values.cast(kind).combine_chunks()
    if values.type != kind and not _is_same(values.combine_chunks(), found):
        raise pa.ArrowInvalid(f"as {kind} some values would be others")
    return found


def _is_same(values: Array, found: Array) -> bool:
    """Whether a cast has made no other values of these. Arrow has no way back for maps, which are believed."""
    if values.null_count == len(values):
        return True
    values, found = _plain(values), _plain(found)
    if pa.types.is_map(values.type) or pa.types.is_map(found.type):
        return True
    if pa.types.is_struct(values.type):
        return _are_fields_same(values, found)
    if pa.types.is_nested(values.type):
        lengths: list[Any] = [pc.list_value_length(each) for each in (values, found)]
        return lengths[0].equals(lengths[1]) and _is_same(*(cast(Any, each).flatten() for each in (values, found)))
    if pa.types.is_floating(values.type) and pa.types.is_floating(found.type):
        return _classes(values) == _classes(found)
    same_sort = pa.types.is_temporal(values.type) == pa.types.is_temporal(found.type)
    return same_sort and _without_nan(values).equals(_without_nan(found.cast(values.type)))


def _plain(values: Array) -> Array:
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _are_fields_same(values: Array, found: Array) -> bool:
    """Of structs: a field that is left out must have been null."""
    new = dict(zip(found.type.names, cast(Any, found).flatten(), strict=True))
    for name, field in zip(values.type.names, cast(Any, values).flatten(), strict=True):
        if not (_is_same(field, new[name]) if name in new else field.null_count == len(field)):
            return False
    return True


def _classes(values: Array) -> list[Any]:
    """Which of these floats are finite, which infinite, which no number."""
    wide = values.cast(pa.float64())
    return [pc.is_finite(wide), pc.is_nan(wide)]


def _without_nan(values: Array) -> Array:
    if not pa.types.is_floating(values.type):
        return values
    return cast(Array, pc.if_else(pc.is_nan(values).fill_null(False), pa.scalar(0, values.type), values))
