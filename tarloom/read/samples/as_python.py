"""Which values of joined columns are no Python objects: times beyond the years 1 to 9999, or of an unknown zone, and
texts that are not UTF-8."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.format.arrow_types import Array
from tarloom.format.retyped import holds
from tarloom.read.ledger import Skipped
from tarloom.read.samples.chunk import Chunk

_NO_OBJECT = (OverflowError, ValueError, LookupError)


def as_python(chunks: Iterator[Chunk], url: str) -> Iterator[Chunk]:
    """The same chunks; rows fail, and have no such value, where a column holds one that Python has not."""
    for chunk in chunks:
        for name, array in chunk.columns.items():
            times = holds(array.type, pa.types.is_temporal) and _wrong(_edges(array)) is not None
            if times or not _is_valid(array):
                chunk = _failed(chunk, name, array, url)
        yield chunk


def _edges(array: Array) -> Any:
    """What Python has if it has all values: the first and the last time, unless some between may be too fine for it."""
    kind = array.type
    if not (pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and kind.unit != "ns")):
        return array
    return pc.min_max(array)


def _is_valid(array: Array) -> bool:
    """Whether its texts are UTF-8, among all else that Arrow can look at without making objects."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _wrong(values: Any) -> str | None:
    """Why Python has no such values; None where it has."""
    try:
        values.to_pylist() if isinstance(values, pa.Array) else values.as_py()
    except UnicodeDecodeError:
        return "is no text, as it is not UTF-8"
    except _NO_OBJECT:
        return "is no time that Python has"
    return None


def _failed(chunk: Chunk, name: str, array: Array, url: str) -> Chunk:
    bad = {row: wrong for row, value in enumerate(array) if (wrong := _wrong(value)) is not None}
    rows, keys = np.arange(len(array)), chunk.keys
    sound: Any = array.take(pa.array(rows, mask=np.isin(rows, list(bad))))
    errors = {
        row: Skipped(where=url, key=keys[row].as_py(), name="bad_value", reason=f"{name} {wrong}; read it in batches")
        for row, wrong in bad.items()
    }
    return replace(chunk, columns={**chunk.columns, name: sound}, errors=errors | dict(chunk.errors))
