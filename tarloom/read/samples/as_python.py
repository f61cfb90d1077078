"""Which values of joined columns are no Python objects: times beyond the years 1 to 9999, or of an unknown zone."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.format.arrow_types import Array
from tarloom.read.ledger import Skipped
from tarloom.read.samples.chunk import Chunk

_NO_OBJECT = (OverflowError, ValueError, LookupError)


def as_python(chunks: Iterator[Chunk], url: str) -> Iterator[Chunk]:
    """The same chunks; rows fail, and have no such value, where a column holds one that Python has not."""
    for chunk in chunks:
        for name, array in chunk.columns.items():
            if _has_times(array.type) and not _is_python(_edges(array)):
                chunk = _failed(chunk, name, array, url)
        yield chunk


def _has_times(kind: Any) -> bool:
    """Whether a time is anywhere in a type."""
    return pa.types.is_temporal(kind) or any(_has_times(kind.field(i).type) for i in range(kind.num_fields))


def _edges(array: Array) -> Any:
    """What Python has if it has all values: the first and the last time, unless some between may be too fine for it."""
    kind = array.type
    if not (pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and kind.unit != "ns")):
        return array
    return pc.min_max(array)


def _is_python(values: Any) -> bool:
    try:
        values.to_pylist() if isinstance(values, pa.Array) else values.as_py()
    except _NO_OBJECT:
        return False
    return True


def _failed(chunk: Chunk, name: str, array: Array, url: str) -> Chunk:
    bad = [row for row, value in enumerate(array) if not _is_python(value)]
    rows = np.arange(len(array))
    sound: Any = array.take(pa.array(rows, mask=np.isin(rows, bad)))
    reason = f"{name} is no time that Python has; read it in batches"
    keys = chunk.keys
    errors = {row: Skipped(where=url, key=keys[row].as_py(), name="bad_value", reason=reason) for row in bad}
    return replace(chunk, columns={**chunk.columns, name: sound}, errors=errors | dict(chunk.errors))
