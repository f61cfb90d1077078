"""What models read of a row: a column's value as text, or a member's as it was stored.

Parquet may hold what Python has no value for: text that is not UTF-8, times beyond the year 9999. Such a value costs
its row no more than a few odd characters, and the others nothing.
"""

from typing import Any

import pyarrow as pa

from tarloom.create.texts import mended, times_as_text
from tarloom.format.arrow_types import Array


def texts_of(column: Array) -> list[str | None]:
    """One a row, None for null."""
    return [text_at(column, row) for row in range(len(column))]


def text_at(column: Array, row: int) -> str | None:
    """Of one row; None for null, and for what Arrow cannot write either, such as a time in a zone that nobody knows."""
    try:
        value = column[row].as_py()
    except (ValueError, OverflowError, LookupError):
        value = _as_arrow_writes_it(column.slice(row, 1))
    return None if value is None else text_of(value)


def text_of(value: Any) -> str:
    """Of what is no null."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def _as_arrow_writes_it(one: Array) -> Any:
    try:
        return mended(times_as_text(pa.table([one], names=["value"])).column(0))[0].as_py()
    except pa.ArrowInvalid:
        return None
