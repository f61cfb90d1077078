"""What becomes of rows that cannot be read, as the view's `on_error` says: the end, left out, or rows with an error.

A sample fails where a member cannot be decoded; all samples that are left of a piece fail where its shard, or a file
that belongs to it, cannot be read.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from tarloom.errors import BadSample, ShardError, StorageError, TooManyErrors
from tarloom.format.arrow_types import Array
from tarloom.read.columns.join import rows_to_read
from tarloom.read.ledger import Ledger, Skipped
from tarloom.read.plan.indexes import cached_index
from tarloom.read.plan.pieces import Piece
from tarloom.read.samples.chunk import Chunk

_log = logging.getLogger(__name__)


def delivered(piece: Piece, chunks: Iterator[Chunk], ledger: Ledger | None, *, batch_rows: int) -> Iterator[Chunk]:
    """The chunks as they are handed on. Failures are counted in the ledger; without one, they are logged.

    Raises BadSample, or what the chunks raise, where `on_error` is "raise"; TooManyErrors beyond the ledger's limits.
    """
    if piece.view.on_error == "raise":
        for chunk in chunks:
            _raise_first(chunk)
            yield chunk
            del chunk  # the next one gets its memory
        return
    counted = Ledger() if ledger is None else ledger
    for chunk in _with_lost(piece, chunks, batch_rows):
        counted.count(len(chunk), chunk.errors)
        if not chunk.errors:
            yield chunk
        elif piece.view.on_error == "row":
            yield chunk.with_failed_empty()
        elif len(chunk.errors) < len(chunk):
            yield chunk.without_failed()
    if ledger is None and counted.counts and piece.view.on_error == "skip":
        _log.warning("%s: %d samples left out: %s", piece.url, counted.rows, counted.entries[0])


def report_unmatched(piece: Piece, ledger: Ledger | None, unmatched: Sequence[Skipped]) -> None:
    """Say which samples a joined table has no row for: in the ledger where they are left out, else in the log."""
    for entry in unmatched:
        if piece.view.join == "skip" and ledger is not None:
            ledger.skip(entry)
        else:
            _log.warning("%s: joined with %s for %d samples: %s", piece.url, piece.view.join, entry.rows, entry)


def _raise_first(chunk: Chunk) -> None:
    if chunk.errors:
        first = chunk.errors[min(chunk.errors)]
        others = "leave it out by a condition, or, but in a feed, read on with on_error skip or row"
        raise BadSample(f"{first}; mend it, {others}")


def _with_lost(piece: Piece, chunks: Iterator[Chunk], batch_rows: int) -> Iterator[Chunk]:
    """The chunks and, where they end with an error, the rows that did not come, as failed ones."""
    done = 0
    try:
        for chunk in chunks:
            yield chunk
            done += len(chunk)
    except TooManyErrors:
        raise
    except (ShardError, StorageError) as error:
        lost, failed = _keys(piece).slice(done), Skipped.of_file(error)
    else:
        return
    for first in range(0, len(lost), batch_rows):
        yield _failed(piece, lost.slice(first, batch_rows), failed)


def _keys(piece: Piece) -> Array:
    """Keys of the rows that the view lets through, of all that were wanted where that cannot be told; nulls where they
    cannot be had."""
    numbers = piece.numbers
    keys: Array = pa.nulls(len(numbers), pa.string())
    try:
        index = cached_index(piece.storage, piece.shard, piece.tar, piece.identity)
        if index.rows >= piece.last:
            keys = index.keys.take(pa.array(numbers))
            keys = rows_to_read(piece, index).keys
    except (ShardError, StorageError):
        _log.debug("%s: some of its files cannot be read", piece.url, exc_info=True)
    return keys


def _failed(piece: Piece, keys: Array, error: Skipped) -> Chunk:
    rows = len(keys)
    members: dict[str, list[Any]] = {member: [None] * rows for member in piece.view.members}
    columns = {column.name: pa.array([None] * rows, column.type) for column in piece.view.columns}
    return Chunk(keys=keys, members=members, columns=columns, errors=dict.fromkeys(range(rows), error))
