"""The one read path: a piece becomes Arrow batches. Every engine maps this over pieces.

Members come as byte ranges (memory-mapped where the shard is local, coalesced where it is not, and then read ahead by
one batch). Columns of metadata and sidecars are joined with proof: their keys are the index's. An index is not
trusted blindly: the tar must be of the size it was made for, and the headers in front of a piece's first and last
members must be theirs.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from tarloom.errors import StaleIndex
from tarloom.format.index import ShardIndex
from tarloom.read.catalog import cached_index
from tarloom.read.join import rows_to_read
from tarloom.read.pieces import MIB, Array, Piece
from tarloom.read.trust import check_members

BATCH_ROWS = 1024
BATCH_BYTES = 64 * MIB
"""A batch ends where it would grow beyond this, unless it is one row."""
LARGEST_BINARY = 2**31 - 1
"""More bytes than this in one Arrow array need 64-bit offsets."""

Made = TypeVar("Made")
Ranges = tuple[np.ndarray, np.ndarray]
"""Offsets and sizes of one member, int64 of shape (rows,); size -1 where a sample lacks it."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some rows of a shard, as they lie in memory."""

    keys: Array
    """One for each row that the view lets through; so are all others here."""
    members: Mapping[str, Sequence[memoryview | None]]
    columns: Mapping[str, Array]


def read_piece(piece: Piece, *, batch_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """The piece's rows in tar order, as batches of `piece.view.schema`.

    A member is null where a sample lacks it. A batch has at most `batch_rows` rows and about 64 MiB; a member of 2 GiB
    or more comes alone, as large_binary. Raises ShardError or StorageError that names the shard.
    """
    for chunk in read_chunks(piece, batch_rows=batch_rows):
        arrays = [chunk.keys, *(_binary(views) for views in chunk.members.values()), *chunk.columns.values()]
        fields = [field.with_type(array.type) for field, array in zip(piece.view.schema, arrays, strict=True)]
        yield pa.record_batch(arrays, schema=pa.schema(fields))


def read_samples(piece: Piece, *, batch_rows: int = BATCH_ROWS) -> Iterator[dict[str, object]]:
    """The piece's rows in tar order, as dicts: `__key__`, `__url__`, the members a sample has as bytes, columns."""
    url = piece.url
    for chunk in read_chunks(piece, batch_rows=batch_rows):
        columns = {name: array.to_pylist() for name, array in chunk.columns.items()}
        for i, key in enumerate(chunk.keys.to_pylist()):
            sample: dict[str, object] = {"__key__": key, "__url__": url}
            for member, views in chunk.members.items():
                view = views[i]
                if view is not None:
                    sample[member] = bytes(view)
            for name, values in columns.items():
                sample[name] = values[i]
            yield sample


def read_chunks(piece: Piece, *, batch_rows: int = BATCH_ROWS) -> Iterator[Chunk]:
    """The piece's rows in tar order, members as views of the bytes read. Raises as read_piece does."""
    if piece.rows == 0:
        return
    index = _trusted_index(piece)
    rows = rows_to_read(piece, index)
    ranges = {member: _member_ranges(index, member, piece, rows.numbers) for member in piece.view.members}

    def read(first: int, last: int) -> Chunk:
        return Chunk(
            keys=rows.keys.slice(first, last - first),
            members=_views(piece, {m: (o[first:last], s[first:last]) for m, (o, s) in ranges.items()}),
            columns={name: array.slice(first, last - first) for name, array in rows.columns.items()},
        )

    bounds = _batch_bounds([sizes for _, sizes in ranges.values()], rows=len(rows.keys), batch_rows=batch_rows)
    if not bounds or piece.storage.local_path(piece.tar.name) is not None:
        yield from itertools.starmap(read, bounds)
    else:
        yield from _read_ahead(read, bounds)


def _trusted_index(piece: Piece) -> ShardIndex:
    index = cached_index(piece.storage, piece.shard, piece.tar, piece.identity)
    if index.identity != piece.identity or index.rows < piece.last:
        raise StaleIndex(f"{piece.url}: changed while it was being read; open the dataset again")
    return index


def _member_ranges(index: ShardIndex, member: str, piece: Piece, numbers: np.ndarray) -> Ranges:
    """Where these rows' members lie, after a look at the tar itself for the first and the last of them."""
    if member not in index.extensions:
        return np.zeros(len(numbers), np.int64), np.full(len(numbers), -1, np.int64)
    offsets, sizes = _as_int64(index.offsets(member), 0)[numbers], _as_int64(index.sizes(member), -1)[numbers]
    check_members(piece, index, member, numbers=numbers, offsets=offsets, sizes=sizes)
    return offsets, sizes


def _as_int64(column: Array, null: int) -> np.ndarray:
    values: np.ndarray = column.fill_null(null).to_numpy(zero_copy_only=False)
    return values


def _batch_bounds(sizes: Sequence[np.ndarray], *, rows: int, batch_rows: int) -> list[tuple[int, int]]:
    """Ranges of rows, each of at most `batch_rows` rows and, if more than one, of at most BATCH_BYTES bytes."""
    if batch_rows < 1:
        raise ValueError(f"batch_rows must be at least 1, not {batch_rows}")
    weights = np.maximum(sizes, 0).sum(axis=0) if sizes else np.zeros(rows, np.int64)
    reached = np.cumsum(weights)
    bounds, first = [], 0
    while first < rows:
        before = int(reached[first - 1]) if first else 0
        fits = int(np.searchsorted(reached, before + BATCH_BYTES, side="right"))
        last = max(first + 1, min(first + batch_rows, fits, rows))
        bounds.append((first, last))
        first = last
    return bounds


def _views(piece: Piece, ranges: Mapping[str, Ranges]) -> dict[str, list[memoryview | None]]:
    """The members' bytes, all asked of the storage at once."""
    present = {member: np.flatnonzero(sizes >= 0) for member, (_, sizes) in ranges.items()}
    offsets = [offset for member, rows in present.items() for offset in ranges[member][0][rows].tolist()]
    sizes = [size for member, rows in present.items() for size in ranges[member][1][rows].tolist()]
    found = piece.storage.read_ranges(piece.tar.name, offsets, sizes)
    views: dict[str, list[memoryview | None]] = {}
    start = 0
    for member, rows in present.items():
        part = found[start : start + len(rows)]
        start += len(rows)
        views[member] = _spread(part, rows, total=len(ranges[member][1]))
    return views


def _spread(found: Sequence[memoryview], rows: np.ndarray, *, total: int) -> list[memoryview | None]:
    """Put what was found at its rows, None at all others."""
    if len(rows) == total:
        return list(found)
    spread: list[memoryview | None] = [None] * total
    for row, view in zip(rows.tolist(), found, strict=True):
        spread[row] = view
    return spread


def _binary(views: Sequence[memoryview | None]) -> Array:
    """One copy of all bytes into an Arrow array: much faster than appending one by one."""
    present = [view for view in views if view is not None]
    sizes = np.fromiter((0 if view is None else len(view) for view in views), np.int64, len(views))
    offsets = np.zeros(len(views) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    large = int(offsets[-1]) > LARGEST_BINARY
    validity = None
    if len(present) != len(views):
        mask = np.fromiter((view is not None for view in views), np.bool_, len(views))
        validity = pa.py_buffer(np.packbits(mask, bitorder="little").tobytes())
    ends = pa.py_buffer(offsets.astype(np.int64 if large else np.int32).tobytes())
    buffers = [validity, ends, pa.py_buffer(b"".join(present))]
    return pa.Array.from_buffers(pa.large_binary() if large else pa.binary(), len(views), buffers)


def _read_ahead(read: Callable[[int, int], Made], bounds: Sequence[tuple[int, int]]) -> Iterator[Made]:
    """What `read` makes of the bounds, in order; the next is read while the caller works on this one."""
    with ThreadPoolExecutor(1, thread_name_prefix="tarloom-read-ahead") as pool:
        coming = pool.submit(read, *bounds[0])
        for bound in bounds[1:]:
            made, coming = coming.result(), pool.submit(read, *bound)
            yield made
        yield coming.result()
