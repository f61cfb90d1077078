"""From facts and a view to pieces: linear in the number of shards, and one at a time, since there may be millions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from tarloom.format.layout import compression_of
from tarloom.read.catalog import Catalog, ShardFiles
from tarloom.read.facts import Facts
from tarloom.read.pieces import ROW_BYTES, Piece, row_ranges
from tarloom.read.view import View


def plan_pieces(catalog: Catalog, facts: Facts, view: View, *, target_bytes: int) -> Iterator[Piece]:
    """All rows, in order, as pieces of about this many bytes. A compressed tar is one piece: its start is its door."""
    sizes = viewed_bytes(facts, view).tolist()
    for shard, identity, rows, size in zip(catalog.shards, facts.identities(), facts.rows.tolist(), sizes, strict=True):
        target = target_bytes if compression_of(shard.tar.name) is None else max(size, target_bytes)
        for first, last in row_ranges(rows, size, target_bytes=target):
            yield _piece(catalog, shard, identity, view, first=first, last=last, size=size * (last - first) // rows)


def piece_of_rows(catalog: Catalog, facts: Facts, view: View, *, shard: int, rows: Sequence[int]) -> Piece:
    """These rows, ascending, of the shard of this number."""
    piece = _piece(
        catalog, catalog.shards[shard], facts[shard].identity, view, first=rows[0], last=rows[-1] + 1, size=0
    )
    return piece if len(rows) == piece.rows else replace(piece, only=tuple(rows))


def by_shard(sizes: np.ndarray, rows: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Rows by their numbers in all shards, in any order: numbers of shards, and the rows by their numbers in them.

    sizes: rows of each shard, int64 of shape (shards,).
    """
    ends, ordered = np.cumsum(sizes), np.unique(np.fromiter(rows, np.int64))
    shards, firsts = np.unique(np.searchsorted(ends, ordered, side="right"), return_index=True)
    for shard, part in zip(shards.tolist(), np.split(ordered, firsts[1:]), strict=True):
        yield shard, part - (ends[shard] - sizes[shard])


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
