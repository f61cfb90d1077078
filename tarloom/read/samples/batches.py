"""The one read path: a piece becomes Arrow batches. Every engine maps this over pieces.

The piece's index says where members lie; join.py says which rows are read, and brings their columns; members.py reads
the bytes and proves whose they are; decoded.py and failures.py see to what is wanted of them. Remote shards are read
ahead by one chunk. What is held at a time is bounded by BATCH_BYTES, whatever the size of the shard.
"""

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from tarloom.errors import StaleIndex
from tarloom.format.index import ShardIndex
from tarloom.read.columns.join import rows_to_read
from tarloom.read.ledger import Ledger
from tarloom.read.plan.indexes import cached_index
from tarloom.read.plan.pieces import Piece
from tarloom.read.samples.as_python import as_python
from tarloom.read.samples.chunk import Chunk
from tarloom.read.samples.decoded import decoded
from tarloom.read.samples.decoders import Form
from tarloom.read.samples.failures import delivered, report_unmatched
from tarloom.read.samples.members import Members
from tarloom.read.samples.to_arrow import check_batches, to_batch
from tarloom.read.samples.to_samples import to_samples

BATCH_ROWS = 1024
READ_BYTES = 16 << 20
"""Read at a time from this machine: what is in memory, and handed on while more is read, stays in the processor's
cache, and little memory is taken for the first time. (A page of it cost as much as the bytes to fill it with.)"""
BATCH_BYTES = 64 << 20
"""A batch ends where it would grow beyond this, unless it is one row. So much is read at a time from an object store,
which answers many requests at once."""


def read_piece(
    piece: Piece, *, batch_rows: int | None = None, ledger: Ledger | None = None, memory_map: bool = False
) -> Iterator[pa.RecordBatch]:
    """The piece's rows in tar order, as batches of `piece.view.schema`.

    memory_map: members that are not decoded are binary_view, and stay where they lie in a local tar that can be mapped
    (mapped.py says what that asks of its owner).

    A member is null where a sample lacks it. A batch has at most `batch_rows` rows and about 64 MiB; by default as many
    as are best read at a time. A member of 2 GiB or more comes alone, as large_binary. ledger: counts what cannot be
    read and does not end the reading. Raises ShardError or StorageError that names the shard, UsageError where a member
    is decoded to what no batch can hold.
    """
    check_batches(piece.view)
    for chunk in read_chunks(piece, "batch", batch_rows=batch_rows, ledger=ledger, mapped=memory_map):
        yield to_batch(chunk, piece.view, as_views=memory_map)


def read_samples(
    piece: Piece, *, batch_rows: int | None = None, ledger: Ledger | None = None
) -> Iterator[dict[str, Any]]:
    """The piece's rows in tar order, as dicts: `__key__`, `__url__`, the members a sample has, columns.

    Members are bytes or what they are decoded to. Where failed samples are rows, all have `__error__`.
    """
    apart = set(piece.view.members).difference(piece.view.decoded)
    chunks = read_chunks(piece, "sample", batch_rows=batch_rows, ledger=ledger, apart=apart)
    return chain.from_iterable(map(partial(to_samples, view=piece.view, url=piece.url), chunks))


def read_chunks(
    piece: Piece,
    form: Form,
    *,
    batch_rows: int | None = None,
    ledger: Ledger | None = None,
    apart: Collection[str] = (),
    mapped: bool = False,
) -> Iterator[Chunk]:
    """The piece's rows in tar order, decoded, failures treated as its view says. Raises as read_piece does.

    apart: members of which bytes objects are wanted in the end; they come as these where that spares a copy. mapped:
    members may stay where they lie.
    """
    chunks = _chunks(piece, batch_rows, ledger, apart, mapped=mapped)
    if not piece.storage.is_local and (piece.rows > BATCH_ROWS or piece.bytes > BATCH_BYTES):
        chunks = _ahead(chunks)  # a smaller one is read at once
    if piece.view.decode:
        chunks = decoded(chunks, piece.view.decoded, form, url=piece.url)
    if form == "sample" and piece.view.columns:
        chunks = as_python(chunks, piece.url)
    return delivered(piece, chunks, ledger, batch_rows=batch_rows or BATCH_ROWS)


def _chunks(
    piece: Piece, batch_rows: int | None, ledger: Ledger | None, apart: Collection[str], *, mapped: bool
) -> Iterator[Chunk]:
    """The piece's rows in tar order, members as bytes."""
    if batch_rows is not None and batch_rows < 1:
        raise ValueError(f"batch_rows must be at least 1, not {batch_rows}")
    if piece.rows == 0:
        return
    index = _trusted_index(piece)
    rows = rows_to_read(piece, index)
    report_unmatched(piece, ledger, rows.unmatched)
    members = Members(piece, index, rows, apart=apart, mapped=mapped)
    read_bytes = READ_BYTES if piece.storage.is_local and not mapped else BATCH_BYTES
    for first, last in _bounds(members.sizes(), batch_rows, read_bytes):
        chunk = Chunk(
            keys=rows.keys.slice(first, last - first),
            members=members.read(first, last),
            columns={name: array.slice(first, last - first) for name, array in rows.columns.items()},
        )
        yield from chunk.parts(batch_rows or len(chunk))
        del chunk  # the next one gets its memory


def _trusted_index(piece: Piece) -> ShardIndex:
    index = cached_index(piece.storage, piece.shard, piece.tar, piece.identity)
    if index.identity != piece.identity or index.rows < piece.last:
        raise StaleIndex(f"{piece.url}: changed while it was being read; open the dataset again")
    return index


def _bounds(sizes: np.ndarray, batch_rows: int | None, read_bytes: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows to read at a time: several whole batches, or one of at most BATCH_BYTES, or one row.

    sizes: int64 of shape (rows,). batch_rows: None where any number will do.
    """
    reached, first = np.cumsum(sizes), 0
    while first < len(sizes):
        before = int(reached[first - 1]) if first else 0
        most, large = np.searchsorted(reached, [before + read_bytes, before + BATCH_BYTES], side="right") - first
        rows = min(int(most), BATCH_ROWS)
        if batch_rows is not None:
            rows = max(rows - rows % batch_rows, min(int(large), batch_rows))
        last = min(first + max(rows, 1), len(sizes))
        yield first, last
        first = last


def _ahead(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The same; the next one is made in a thread while the caller works on this one."""
    with ThreadPoolExecutor(1, thread_name_prefix="tarloom-read-ahead") as pool:
        coming = pool.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = pool.submit(next, chunks, None)
            yield chunk
