"""Some rows of a shard as they lie in memory, on their way from the tar to a batch or to samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.format.arrow_types import Array
from tarloom.read.ledger import Skipped
from tarloom.read.samples.binary import Binary


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Rows of a piece, in order: those that its view lets through."""

    keys: Array
    members: Mapping[str, Sequence[Any] | Array]
    """By name, each with one value a row: the bytes read or a view of them, or what they were decoded to; None where a
    sample lacks the member. Decoded pictures for a batch are an Arrow array."""
    columns: Mapping[str, Array]
    errors: Mapping[int, Skipped] = field(default_factory=dict)
    """Rows that could not be read, by their numbers here."""

    def __len__(self) -> int:
        return len(self.keys)

    def slice(self, first: int, last: int) -> "Chunk":
        """These rows alone."""
        return replace(
            self,
            keys=self.keys.slice(first, last - first),
            members={name: values[first:last] for name, values in self.members.items()},
            columns={name: array.slice(first, last - first) for name, array in self.columns.items()},
            errors={row - first: error for row, error in self.errors.items() if first <= row < last},
        )

    def parts(self, rows: int) -> Iterator["Chunk"]:
        """All its rows, at most so many in each."""
        if len(self) <= rows:
            yield self
            return
        for first in range(0, len(self), rows):
            yield self.slice(first, min(first + rows, len(self)))

    def without_failed(self) -> "Chunk":
        """The other rows."""
        kept = self._kept()
        return Chunk(
            keys=self.keys.filter(kept),
            members={name: _filtered(values, kept) for name, values in self.members.items()},
            columns={name: array.filter(kept) for name, array in self.columns.items()},
        )

    def with_failed_empty(self) -> "Chunk":
        """The same rows; those that failed have no members."""
        kept = self._kept()
        return replace(self, members={name: _with_nulls(values, kept) for name, values in self.members.items()})

    def _kept(self) -> Array:
        """Whether a row is well."""
        kept = np.ones(len(self), np.bool_)
        kept[list(self.errors)] = False
        return pa.array(kept)


def _filtered(values: Sequence[Any] | Array, kept: Array) -> Sequence[Any] | Array:
    if isinstance(values, Binary):
        return Binary(_computable(values.array).filter(kept))
    if isinstance(values, pa.Array):
        return values.filter(kept)
    return [value for value, keep in zip(values, kept.to_pylist(), strict=True) if keep]


def _with_nulls(values: Sequence[Any] | Array, kept: Array) -> Sequence[Any] | Array:
    if isinstance(values, Binary):
        array = _computable(values.array)
        return Binary(pc.if_else(kept, array, pa.scalar(None, array.type)))
    if isinstance(values, pa.Array):
        return cast(Array, pc.if_else(kept, values, pa.scalar(None, values.type)))
    return [value if keep else None for value, keep in zip(values, kept.to_pylist(), strict=True)]


def _computable(array: Array) -> Array:
    """The same; of views, which pyarrow's functions do not know yet, a copy."""
    return array.cast(pa.binary()) if array.type == pa.binary_view() else array
