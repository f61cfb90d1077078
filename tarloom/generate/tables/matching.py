"""How rows of two tables find each other: by the texts of the columns that they are joined by.

What is 7 in one table may be "7" or 7.0 in the other: as texts they are equal. What is null matches nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.create.sources.tables import ERROR, ROW
from tarloom.create.texts import as_text
from tarloom.format.arrow_types import ChunkedArray
from tarloom.generate.tables.config import Detail

_WHOLE_BELOW = 2.0**63
_LONGEST_VALUE = 60


def key_texts(table: pa.Table, columns: Sequence[str]) -> ChunkedArray:
    """What each row is found by, null where one of the columns is."""
    texts = [_text(table.column(name)) for name in columns]
    if len(texts) == 1:
        return texts[0]
    lengths = [pc.cast(pc.binary_length(text), pa.string()) for text in texts]  # "a","bc" is not "ab","c"
    parts = [part for pair in zip(lengths, texts, strict=True) for part in pair]
    join: Any = pc.binary_join_element_wise
    return cast(ChunkedArray, join(*parts, " ", null_handling="emit_null"))


def named(columns: Sequence[str], values: Sequence[str | None]) -> str:
    """What a row was to be found by, in a message."""
    pairs = zip(columns, values, strict=True)
    return ", ".join(f"{name} = {'null' if value is None else _shortened(value)}" for name, value in pairs)


def values_of(key: str, columns: int) -> list[str]:
    """The texts that one of key_texts is made of."""
    if columns == 1:
        return [key]
    rest, found = key.encode(), list[str]()
    while rest:
        length, _, rest = rest.partition(b" ")
        found.append(rest[: int(length)].decode())
        rest = rest[int(length) + 1 :]
    return found


def doubled(keys: ChunkedArray) -> str | None:
    """A key that is there more than once; None where there is none."""
    counts: Any = pc.value_counts(keys.drop_null())
    more: Any = counts.field("counts").to_numpy() > 1
    twice = counts.filter(pa.array(more))
    return str(twice.field("values")[0].as_py()) if len(twice) else None


@dataclass(frozen=True, kw_only=True)
class Join:
    """A table of details, as it is joined."""

    detail: Detail
    columns: pa.Schema
    """What it adds."""
    place: str
    """A further column: the number of the row that was found, -1 where there was none."""

    @property
    def added(self) -> pa.Schema:
        """All that a join with it adds to a row."""
        return self.columns.append(pa.field(self.place, pa.int64()))

    def of(self, table: pa.Table) -> pa.Table:
        """What it adds, of rows of the table itself."""
        return table.select([*self.columns.names, ROW]).rename_columns(self.added.names)

    def settled(self, table: pa.Table) -> pa.Table:
        """The joined rows, those marked as failed that found nothing."""
        place = table.schema.names.index(self.place)
        found: Any = pc.fill_null(cast(Any, table.column(self.place)), -1)
        table = table.set_column(place, self.place, found)
        lost = np.flatnonzero(found.to_numpy() < 0)
        texts = [_text(table.column(name).take(lost)).to_pylist() for name in self.detail.left]
        reasons = [self._reason(values) for values in zip(*texts, strict=True)]
        return with_errors(table, dict(zip(lost.tolist(), reasons, strict=True)))

    def _reason(self, values: Sequence[str | None]) -> str:
        return f"no_match: {self.detail.name} has no row with {named(self.detail.right, values)}"


class Lookup:
    """A table of details that is small enough to be held wherever rows are joined with it."""

    def __init__(self, join: Join, table: pa.Table) -> None:
        """table: all rows, with `__row__`."""
        keys: Any = key_texts(table, join.detail.right).combine_chunks().dictionary_encode()
        found = np.flatnonzero(keys.is_valid().to_numpy(zero_copy_only=False))
        numbers = keys.indices.take(pa.array(found)).to_numpy()
        self._keys = keys.dictionary
        self._counts = np.bincount(numbers, minlength=len(self._keys))
        self._starts = np.cumsum(self._counts) - self._counts
        self._rows = join.of(table.take(found[np.argsort(numbers, kind="stable")]))
        self._join = join

    def joined(self, table: pa.Table) -> pa.Table:
        """Each row with what it finds, once for every row that it finds, and once where it finds none."""
        at: Any = pc.index_in(key_texts(table, self._join.detail.left).combine_chunks(), value_set=self._keys)
        number = pc.fill_null(at, -1).to_numpy(zero_copy_only=False)
        hit = number >= 0
        counts = np.ones(len(number), np.int64)
        counts[hit] = self._counts[number[hit]]
        left = np.repeat(np.arange(len(number)), counts)
        nth = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
        right = nth.copy()
        right[hit[left]] += self._starts[number[left][hit[left]]]
        details = self._rows.take(pa.array(right, mask=~hit[left]))
        rows = table.take(left)
        return self._join.settled(
            pa.table([*rows.columns, *details.columns], names=[*rows.schema.names, *details.schema.names])
        )


def with_errors(table: pa.Table, errors: dict[int, str]) -> pa.Table:
    """The table with the rows at these places marked as failed. A row that has failed before keeps its error."""
    if not errors:
        return table
    texts = table.column(ERROR).to_pylist()
    for place, error in errors.items():
        texts[place] = texts[place] or error
    return table.set_column(table.schema.names.index(ERROR), ERROR, pa.array(texts, pa.string()))


def _shortened(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}..."


def _text(column: ChunkedArray) -> ChunkedArray:
    """Values as texts, the same for equal numbers of whatever type."""
    if pa.types.is_decimal(column.type):
        return pc.replace_substring_regex(as_text(column), r"\.0+$|(\.\d*[1-9])0+$", r"\1")
    if not pa.types.is_floating(column.type):
        return as_text(column)
    numbers: Any = column.cast(pa.float64()).to_numpy()
    whole = (numbers == np.floor(numbers)) & (np.abs(numbers) < _WHOLE_BELOW)
    texts = pc.if_else(pa.array(np.isnan(numbers)), pa.scalar(None, pa.string()), as_text(column))
    wholes = pa.array(np.where(whole, numbers, 0).astype(np.int64)).cast(pa.string())
    return pa.chunked_array([pc.if_else(pa.array(whole), wholes, cast(Any, texts).combine_chunks())])
