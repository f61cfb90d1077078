"""From facts and a view to pieces: linear in the number of shards, and one at a time, since there may be millions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from tarloom.format.layout import compression_of
from tarloom.read.plan.catalog import Catalog, ShardFiles
from tarloom.read.plan.facts import Facts
from tarloom.read.plan.pieces import ROW_BYTES, Piece, count_ranges, part_of
from tarloom.read.view import View


@dataclass(frozen=True, kw_only=True)
class PiecePlan:
    """All rows, in order, as pieces of about so many bytes, each made when it is asked for. A compressed tar is one."""

    catalog: Catalog
    facts: Facts
    view: View
    target_bytes: int

    def __len__(self) -> int:
        return int(self._parts.sum())

    def __iter__(self) -> Iterator[Piece]:
        rows, parts = self.facts.rows.tolist(), self._parts.tolist()
        for i, (shard, identity) in enumerate(zip(self.catalog.shards, self.facts.identities(), strict=True)):
            for part in range(parts[i]):
                first, last = part_of(rows[i], part, parts[i])
                size = self._sizes[i] * (last - first) // rows[i]
                yield _piece(self.catalog, shard, identity, self.view, first=first, last=last, size=int(size))

    def __getitem__(self, number: int) -> Piece:
        """The piece of this number, which is at least 0. Raises IndexError where there are fewer."""
        ends = self._ends
        i = int(np.searchsorted(ends, number, side="right"))
        first, last = part_of(int(self.facts.rows[i]), number - int(ends[i] - self._parts[i]), int(self._parts[i]))
        size = int(self._sizes[i]) * (last - first) // int(self.facts.rows[i])
        shard, identity = self.catalog.shards[i], self.facts.identity(i)
        return _piece(self.catalog, shard, identity, self.view, first=first, last=last, size=size)

    @cached_property
    def _sizes(self) -> np.ndarray:
        return viewed_bytes(self.facts, self.view)

    @cached_property
    def _parts(self) -> np.ndarray:
        """Pieces of each shard: int64 of shape (shards,)."""
        parts = count_ranges(self.facts.rows, self._sizes, target_bytes=self.target_bytes)
        compressed = [compression_of(shard.tar.name) is not None for shard in self.catalog.shards]
        return np.where(compressed, np.minimum(parts, 1), parts)

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self._parts)


def piece_of_rows(catalog: Catalog, facts: Facts, view: View, *, shard: int, rows: Sequence[int]) -> Piece:
    """These rows, ascending, of the shard of this number."""
    piece = _piece(
        catalog, catalog.shards[shard], facts.identity(shard), view, first=rows[0], last=rows[-1] + 1, size=0
    )
    return piece if len(rows) == piece.rows else replace(piece, only=tuple(rows))


def by_shard(sizes: np.ndarray, rows: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Rows by their numbers in all shards, in any order: numbers of shards, and the rows by their numbers in them.

    sizes: rows of each shard, int64 of shape (shards,).
    """
    ends, ordered = np.cumsum(sizes), np.unique(np.fromiter(rows, np.int64))
    shards, firsts = np.unique(np.searchsorted(ends, ordered, side="right"), return_index=True)
    for shard, (first, last) in zip(shards.tolist(), pairwise([*firsts.tolist(), len(ordered)]), strict=True):
        yield shard, ordered[first:last] - (ends[shard] - sizes[shard])


def viewed_bytes(facts: Facts, view: View) -> np.ndarray:
    """About how many bytes each shard yields: int64 of shape (shards,)."""
    sizes: np.ndarray = facts.bytes_of(view.members) + facts.rows * ROW_BYTES
    return sizes


def _piece(
    catalog: Catalog, shard: ShardFiles, identity: str, view: View, *, first: int, last: int, size: int
) -> Piece:
    return Piece(
        storage=catalog.storage,
        shard=shard.shard,
        tar=shard.tar,
        identity=identity,
        first=first,
        last=last,
        view=view,
        bytes=size,
    )
