"""The one read path: a piece becomes Arrow batches. Every engine maps this over pieces.

Members come as byte ranges (memory-mapped where the shard is local, coalesced where it is not, and then read ahead by
one batch). Columns of metadata and sidecars are joined with proof: their keys are the index's. An index is not
trusted blindly: the tar must be of the size it was made for, and the headers in front of a piece's first and last
members must be theirs.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from tarloom.errors import StaleIndex, UsageError
from tarloom.format.compressed import tar_ranges
from tarloom.format.index import ShardIndex
from tarloom.format.storage_base import RangeSource
from tarloom.read.catalog import cached_index
from tarloom.read.chunk import Chunk
from tarloom.read.decoded import Form, decoded
from tarloom.read.failures import delivered, report_unmatched
from tarloom.read.join import rows_to_read
from tarloom.read.ledger import Ledger, Skipped
from tarloom.read.pieces import MIB, Array, Piece
from tarloom.read.trust import check_members
from tarloom.read.view import ERROR, RGB, DecodeAs, View

BATCH_ROWS = 1024
BATCH_BYTES = 64 * MIB
"""A batch ends where it would grow beyond this, unless it is one row."""
LARGEST_BINARY = 2**31 - 1
"""More bytes than this in one Arrow array need 64-bit offsets."""

Made = TypeVar("Made")
Ranges = tuple[np.ndarray, np.ndarray]
"""Offsets and sizes of one member, int64 of shape (rows,); size -1 where a sample lacks it."""


def read_piece(piece: Piece, *, batch_rows: int = BATCH_ROWS, ledger: Ledger | None = None) -> Iterator[pa.RecordBatch]:
    """The piece's rows in tar order, as batches of `piece.view.schema`.

    A member is null where a sample lacks it. A batch has at most `batch_rows` rows and about 64 MiB; a member of 2 GiB
    or more comes alone, as large_binary. ledger: counts what cannot be read and does not end the reading. Raises
    ShardError or StorageError that names the shard, UsageError where a member is decoded to what no batch can hold.
    """
    check_batches(piece.view)
    forms = piece.view.decoded
    for chunk in read_chunks(piece, "batch", batch_rows=batch_rows, ledger=ledger):
        arrays = [chunk.keys, *(_array(values, forms.get(name)) for name, values in chunk.members.items())]
        arrays += chunk.columns.values()
        if piece.view.on_error == "row":
            arrays.append(_error_texts(chunk))
        fields = [field.with_type(array.type) for field, array in zip(piece.view.schema, arrays, strict=True)]
        yield pa.record_batch(arrays, schema=pa.schema(fields))


def read_samples(
    piece: Piece, *, batch_rows: int = BATCH_ROWS, ledger: Ledger | None = None
) -> Iterator[dict[str, object]]:
    """The piece's rows in tar order, as dicts: `__key__`, `__url__`, the members a sample has, columns.

    Members are bytes or what they are decoded to. Where failed samples are rows, all have `__error__`.
    """
    url, forms = piece.url, piece.view.decoded
    for chunk in read_chunks(piece, "sample", batch_rows=batch_rows, ledger=ledger):
        columns = {name: array.to_pylist() for name, array in chunk.columns.items()}
        for i, key in enumerate(chunk.keys.to_pylist()):
            sample: dict[str, object] = {"__key__": key, "__url__": url}
            for member, values in chunk.members.items():
                value = values[i]
                if value is not None:
                    sample[member] = value if member in forms else bytes(value)
            for name, values in columns.items():
                sample[name] = values[i]
            if piece.view.on_error == "row":
                sample[ERROR] = chunk.errors[i].text if i in chunk.errors else None
            yield sample


def check_batches(view: View) -> None:
    """Raises UsageError where a member is decoded to what no batch can hold."""
    pil = next((member for member, form in view.decode if form == "pil"), None)
    if pil is not None:
        raise UsageError(f"{pil}: Pillow images exist in samples only; decode it to rgb, or iterate over the dataset")


def read_chunks(
    piece: Piece, form: Form, *, batch_rows: int = BATCH_ROWS, ledger: Ledger | None = None
) -> Iterator[Chunk]:
    """The piece's rows in tar order, decoded, failures treated as its view says. Raises as read_piece does."""
    chunks = _chunks(piece, batch_rows, partial(report_unmatched, piece, ledger))
    if piece.view.decode:
        chunks = decoded(chunks, piece.view.decoded, form, url=piece.url)
    return delivered(piece, chunks, ledger, batch_rows=batch_rows)


def _chunks(piece: Piece, batch_rows: int, report: Callable[[Sequence[Skipped]], None]) -> Iterator[Chunk]:
    """The piece's rows in tar order, members as views of the bytes read."""
    if piece.rows == 0:
        return
    index = _trusted_index(piece)
    rows = rows_to_read(piece, index)
    report(rows.unmatched)
    ranges = {member: _member_ranges(index, member, piece, rows.numbers) for member in piece.view.members}
    source = tar_ranges(piece.storage, piece.tar)

    def read(first: int, last: int) -> Chunk:
        return Chunk(
            keys=rows.keys.slice(first, last - first),
            members=_views(source, piece, {m: (o[first:last], s[first:last]) for m, (o, s) in ranges.items()}),
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


def _views(source: RangeSource, piece: Piece, ranges: Mapping[str, Ranges]) -> dict[str, list[memoryview | None]]:
    """The members' bytes, all asked of the storage at once."""
    present = {member: np.flatnonzero(sizes >= 0) for member, (_, sizes) in ranges.items()}
    offsets = [offset for member, rows in present.items() for offset in ranges[member][0][rows].tolist()]
    sizes = [size for member, rows in present.items() for size in ranges[member][1][rows].tolist()]
    found = source.read_ranges(piece.tar.name, offsets, sizes)
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


def _array(values: Sequence[Any], form: DecodeAs | None) -> Array:
    if form is None:
        return _binary(values)
    return _pictures(values) if form == "rgb" else pa.array(values, pa.string())


def _pictures(values: Sequence[np.ndarray | None]) -> Array:
    """Decoded pictures as an array of RGB."""
    shapes = np.array([(0, 0) if value is None else value.shape[:2] for value in values], np.int32).reshape(-1, 2)
    data = _binary([memoryview(b"") if value is None else value.data.cast("B") for value in values])
    absent = pa.array([value is None for value in values], pa.bool_())
    height, width = (pa.array(np.ascontiguousarray(shapes[:, side])) for side in (0, 1))
    return pa.StructArray.from_arrays([height, width, data], fields=list(RGB), mask=absent)


def _error_texts(chunk: Chunk) -> Array:
    texts = [chunk.errors[row].text if row in chunk.errors else None for row in range(len(chunk))]
    return pa.array(texts, pa.string())


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
