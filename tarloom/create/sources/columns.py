"""Columns that travel with a shard's rows and are no part of its metadata. A colon in their names keeps them apart.

row:key     the text that the key is made from: a column of the list, or a picture's path in its folder
row:hash    the hash that the fetched bytes must have
row:error   "NAME: REASON" where the list itself tells that the row must fail, so that it is not fetched
"""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from tarloom.errors import FetchError
from tarloom.format.arrow_types import Array, ChunkedArray

KEY: Final = "row:key"
HASH: Final = "row:hash"
ERROR: Final = "row:error"


def failed(table: pa.Table, errors: Mapping[int, FetchError]) -> pa.Table:
    """The table with the rows at these places marked as failed. A row that has failed before keeps its error."""
    if not errors:
        return table
    before = table.column(ERROR).to_pylist() if ERROR in table.column_names else [None] * table.num_rows
    texts = [known or (str(errors[place]) if place in errors else None) for place, known in enumerate(before)]
    return with_column(table, ERROR, pa.array(texts, pa.string()))


def with_column(table: pa.Table, name: str, column: Array | ChunkedArray) -> pa.Table:
    """The table with this column, in the place of the one of its name if there is one."""
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, column)
    return table.append_column(name, column)


def error_of(text: str | None) -> FetchError | None:
    """The error that stands in a row's `row:error`."""
    if text is None:
        return None
    name, _, reason = text.partition(": ")
    return FetchError(name, reason)
