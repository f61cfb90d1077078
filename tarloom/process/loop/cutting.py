"""How a shard is cut into batches: once and for all, whatever of it has been answered.

What a run that goes on asks about are the batches that an uninterrupted run would have asked about, so that models
whose last bits depend on what else is in a batch give the same bytes.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from tarloom.errors import ShardError
from tarloom.read.plan.indexes import cached_index
from tarloom.read.plan.pieces import Piece
from tarloom.read.samples.batches import BATCH_BYTES, read_piece


def read_batches(piece: Piece, wanted: np.ndarray, *, batch_rows: int) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
    """The wanted rows by the batches that they are in, with their numbers. piece: a whole shard, or its beginning.

    wanted: int64 of shape (rows,), ascending, not empty. Raises ShardError where the shard cannot be read, or holds
    others than planned.
    """
    only = None if len(wanted) == piece.rows else tuple(wanted.tolist())
    found = read_piece(replace(piece, only=only), batch_rows=batch_rows)
    return _cut(piece, found, by_batch(piece, wanted, batch_rows=batch_rows))


def by_batch(piece: Piece, wanted: np.ndarray, *, batch_rows: int) -> list[np.ndarray]:
    """The wanted rows of each batch that has any. piece: a whole shard, or its beginning.

    A batch has at most `batch_rows` rows, and about 64 MiB unless it is one row.
    """
    index = cached_index(piece.storage, piece.shard, piece.tar, piece.identity)
    sizes = np.zeros(index.rows, np.int64)
    for member in set(piece.view.members) & set(index.extensions):
        sizes += index.sizes(member).fill_null(0).to_numpy(zero_copy_only=False)
    batch_of = np.searchsorted(_ends(sizes, batch_rows), wanted, side="right")
    return np.split(wanted, np.flatnonzero(np.diff(batch_of)) + 1)


def _ends(sizes: np.ndarray, batch_rows: int) -> np.ndarray:
    """The first row behind each batch of the shard: int64, ascending. sizes: bytes of each row, int64."""
    reached, ends, first = np.cumsum(sizes), [], 0
    while first < len(reached):
        before = reached[first - 1] if first else 0
        fits = int(np.searchsorted(reached, before + BATCH_BYTES, side="right")) - first
        first += max(1, min(batch_rows, fits))
        ends.append(first)
    return np.array(ends, np.int64)


def _cut(
    piece: Piece, found: Iterator[pa.RecordBatch], wanted: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
    """What was read, as the batches that are wanted."""
    held: list[pa.RecordBatch] = []
    for numbers in wanted:
        while (rows := sum(batch.num_rows for batch in held)) < len(numbers):
            batch = next(found, None)
            if batch is None:
                raise ShardError(f"{piece.url}: {len(numbers)} rows planned, {rows} read; open the dataset again")
            held.append(batch)
        (whole,) = held if len(held) == 1 else pa.Table.from_batches(held).combine_chunks().to_batches()
        yield numbers, whole.slice(0, len(numbers))
        held = [whole.slice(len(numbers))] if whole.num_rows > len(numbers) else []
