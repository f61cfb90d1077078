"""What Arrow takes and Python does not: text that is not UTF-8 is mended, times become text."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.format.arrow_types import ChunkedArray
from tarloom.format.retyped import Kind, retyped


def times_as_text(table: pa.Table) -> pa.Table:
    """Python's own dates and times end at the year 9999 and at microseconds; JSON has none."""
    for place, column in enumerate(table.itercolumns()):
        kind = retyped(column.type, _is_time, lambda _: pa.string())
        if kind != column.type:
            table = table.set_column(place, table.column_names[place], column.cast(kind))
    return table


def as_text(column: ChunkedArray) -> ChunkedArray:
    """A column as strings. Bytes that are not UTF-8 are replaced, not refused: one bad row must not end a run."""
    try:
        return mended(pc.cast(column, pa.string()))
    except pa.ArrowInvalid:
        return _decoded(column, pa.string())


def mended(column: ChunkedArray) -> ChunkedArray:
    """The column, of its own type, with what is not UTF-8 in its texts replaced: parquet's may hold any bytes."""
    kind = retyped(column.type, is_text, lambda _: pa.binary())
    try:
        if kind != column.type:
            column.validate(full=True)
    except pa.ArrowInvalid:
        return _decoded(column.cast(kind), column.type)
    return column


def _is_time(kind: Kind) -> bool:
    """Arrow writes no intervals; Python has them."""
    return pa.types.is_temporal(kind) and not pa.types.is_interval(kind)


def is_text(kind: Kind) -> bool:
    """Whether a column of this type holds texts."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _decoded(column: ChunkedArray, kind: Kind) -> ChunkedArray:
    return pa.chunked_array([pa.array((_as_utf_8(value, kind) for value in column.to_pylist()), kind)])


def _as_utf_8(value: Any, kind: Any) -> Any:
    """The value with bytes decoded where the type has text."""
    if value is None or pa.types.is_primitive(kind):
        return value
    if is_text(kind):
        return value.decode("utf-8", "replace")
    if pa.types.is_dictionary(kind):
        return _as_utf_8(value, kind.value_type)
    if pa.types.is_struct(kind):
        return {field.name: _as_utf_8(value[field.name], field.type) for field in kind}
    if pa.types.is_map(kind):
        return [(_as_utf_8(key, kind.key_type), _as_utf_8(item, kind.item_type)) for key, item in value]
    return [_as_utf_8(each, kind.value_type) for each in value] if isinstance(value, list) else value
