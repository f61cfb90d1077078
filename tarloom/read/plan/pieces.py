"""What a reader is handed: a range of rows of one shard. Planning is a pure function of counts and sizes.

A piece is small and picklable, carries all that a worker needs to read it, and knows its row count without reading.
Pieces split INSIDE a tar, so that work divides evenly whatever the shards' number and sizes; several small pieces are
packed into one task where an engine's tasks are costly.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tarloom.format.storage import Entry, Storage
from tarloom.read.view import View

WHOLE_SHARD = 1 << 62
"""Bytes of a piece, where a shard is to be one, whatever it holds."""
ROW_BYTES = 256
"""What a row costs beside its members: its key, its offsets, its share of the parquet."""

Thing = TypeVar("Thing")
Numbers = TypeVar("Numbers", np.int64, np.ndarray)


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Rows `first` to `last` (exclusive) of a shard, and what to read of them."""

    storage: Storage
    shard: str
    tar: Entry
    """The tar as it was when the piece was planned; a reader refuses another."""
    identity: str
    first: int
    last: int
    view: View
    only: tuple[int, ...] | None = None
    """Numbers of rows, ascending: of the piece's rows, these alone are read. None for all."""
    bytes: int = 0
    """About how many bytes of members and columns it yields."""

    @property
    def rows(self) -> int:
        """How many there are; fewer come out where the view filters."""
        return self.last - self.first

    @property
    def numbers(self) -> np.ndarray:
        """Of the rows that are read unless the view filters, in the shard: int64 of shape (rows,), ascending."""
        return np.arange(self.first, self.last) if self.only is None else np.array(self.only, np.int64)

    @property
    def url(self) -> str:
        """The tar's full address, the `__url__` of its samples."""
        return self.storage.describe(self.tar.name)


def count_ranges(rows: Numbers, total_bytes: Numbers, *, target_bytes: int) -> Numbers:
    """Into how many ranges of about `target_bytes` rows are split, of one shard or of each of several: none if no rows.

    Raises ValueError if target_bytes is less than 1.
    """
    if target_bytes < 1:
        raise ValueError(f"target_bytes must be at least 1, not {target_bytes}")
    counts: Numbers = np.minimum(rows, np.maximum(1, -(-total_bytes // target_bytes)))
    return counts


def part_of(rows: int, part: int, parts: int) -> tuple[int, int]:
    """The first row of a part, and the last (exclusive). Parts are equal within one row."""
    return part * rows // parts, (part + 1) * rows // parts


def pack(pieces: Iterable[Piece], *, total_bytes: int, target_bytes: int) -> list[tuple[Piece, ...]]:
    """Neighbours in one task; as many tasks of about `target_bytes` as it takes, equal within one piece.

    total_bytes: of all pieces.
    """
    count = max(1, -(-total_bytes // target_bytes))
    tasks: list[list[Piece]] = [[] for _ in range(count)]
    reached = 0
    for piece in pieces:
        middle = (reached + piece.bytes // 2) * count // max(1, total_bytes)
        tasks[min(middle, count - 1)].append(piece)
        reached += piece.bytes
    return [tuple(task) for task in tasks if task]


def share(things: Sequence[Thing], *, part: int, parts: int) -> Sequence[Thing]:
    """One of `parts` disjoint shares that together are all, their counts equal within one.

    Raises ValueError unless 0 <= part < parts.
    """
    if not 0 <= part < parts:
        raise ValueError(f"part must be at least 0 and less than {parts}, not {part}")
    return things[part::parts]
