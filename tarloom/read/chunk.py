"""Some rows of a shard as they lie in memory, on their way from the tar to a batch or to samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from tarloom.read.ledger import Skipped
from tarloom.read.pieces import Array


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Rows of a piece, in order: those that its view lets through."""

    keys: Array
    members: Mapping[str, Sequence[Any]]
    """By name, each with one value a row: a view of the bytes read, or what they were decoded to; None where a sample
    lacks the member."""
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

    def without_failed(self) -> "Chunk":
        """The other rows."""
        kept = np.ones(len(self), np.bool_)
        kept[list(self.errors)] = False
        rows, mask = np.flatnonzero(kept).tolist(), pa.array(kept)
        return Chunk(
            keys=self.keys.filter(mask),
            members={name: [values[row] for row in rows] for name, values in self.members.items()},
            columns={name: array.filter(mask) for name, array in self.columns.items()},
        )

    def with_failed_empty(self) -> "Chunk":
        """The same rows; those that failed have no members."""
        members = {name: list(values) for name, values in self.members.items()}
        for values in members.values():
            for row in self.errors:
                values[row] = None
        return replace(self, members=members)
