"""Columns of metadata and sidecars, joined to a shard's samples by key, with proof.

Every sample must have exactly one row in the table that is joined; one without a row, or with two, is an error that
names it, never a null or a guess. Where the table's keys are in the tar's order, as ours are, nothing is looked up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import ShardError
from tarloom.format.index import KEY, ShardIndex
from tarloom.format.layout import metadata_name, sidecar_name
from tarloom.format.metadata import successes
from tarloom.format.parquet import read_table
from tarloom.format.sidecar import check_fresh, read_sidecar, sidecar_info
from tarloom.read.pieces import Array, ChunkedArray, Piece
from tarloom.read.view import Column


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Which rows of a piece are read, and what is joined to them."""

    numbers: np.ndarray
    """Their numbers in the shard: int64 of shape (rows,), ascending."""
    keys: Array
    columns: Mapping[str, Array]
    """By name, in the order of the view; each with one value a row."""


def rows_to_read(piece: Piece, index: ShardIndex) -> Rows:
    """The piece's rows that its view lets through, with the view's columns.

    Raises StaleSidecar where a sidecar was made for another version of the shard, ShardError where keys do not match.
    """
    return Rows(
        numbers=np.arange(piece.first, piece.last),
        keys=index.keys.slice(piece.first, piece.rows),
        columns=_joined_columns(piece, index),
    )


def _joined_columns(piece: Piece, index: ShardIndex) -> dict[str, Array]:
    by_stage: dict[str | None, list[Column]] = {}
    for column in piece.view.columns:
        by_stage.setdefault(column.stage, []).append(column)
    found: dict[str, Array] = {}
    for stage, columns in by_stage.items():
        found |= _join(piece, index, stage, columns)
    return {column.name: found[column.name] for column in piece.view.columns}


def _join(piece: Piece, index: ShardIndex, stage: str | None, columns: Sequence[Column]) -> dict[str, Array]:
    name = metadata_name(piece.shard) if stage is None else sidecar_name(piece.shard, stage)
    where = piece.storage.describe(name)
    fields = [column.field for column in columns]
    if stage is None:
        table, key = _metadata(piece, name, fields, where), "key"
    else:
        table, key = _sidecar(piece, index, stage, fields, where), KEY
    rows = _rows_of(index.keys.slice(piece.first, piece.rows), table[key], index.keys, piece, where)
    return {column.name: _typed(table[column.field], rows, column, where) for column in columns}


def _metadata(piece: Piece, name: str, fields: Sequence[str], where: str) -> pa.Table:
    if piece.storage.head(name) is None:
        raise ShardError(f"{where}: there is no such metadata, as other shards have; select without it")
    columns = list(dict.fromkeys(["key", "status", *fields]))
    return successes(read_table(piece.storage, name, columns, texts=("key", "status")))


def _sidecar(piece: Piece, index: ShardIndex, stage: str, fields: Sequence[str], where: str) -> pa.Table:
    info = sidecar_info(piece.storage, piece.shard, stage)
    if info is None:
        raise ShardError(f"{where}: there is no such sidecar, as other shards have; run the stage over all of them")
    check_fresh(info, index, where)
    return read_sidecar(piece.storage, piece.shard, stage, columns=list(dict.fromkeys([KEY, *fields])))


def _rows_of(wanted: Array, column: ChunkedArray, all_keys: Array, piece: Piece, where: str) -> slice | Array:
    """Which rows of the table are the piece's: a slice where the whole table is in tar order, else row numbers."""
    keys: Array = column.combine_chunks()
    if keys.equals(all_keys):
        return slice(piece.first, piece.last)
    rows = pc.index_in(wanted, value_set=keys)
    if rows.null_count:
        key = wanted.filter(pc.is_null(rows))[0]
        raise ShardError(f"{where}: has no row for key {key} of {piece.url}; make it again, or select without it")
    if len(pc.unique(keys)) != len(keys):
        counts = pc.value_counts(keys)
        key = counts.field("values").filter(pc.greater(counts.field("counts"), pa.scalar(1)))[0]
        raise ShardError(f"{where}: has more than one row for key {key}; make it again, or select without it")
    return rows


def _typed(column: ChunkedArray, rows: slice | Array, wanted: Column, where: str) -> Array:
    part = column.slice(rows.start, rows.stop - rows.start) if isinstance(rows, slice) else column.take(rows)
    try:
        array: Array = part.cast(wanted.type).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        message = f"{where}: {wanted.field} is {column.type}, elsewhere in the dataset {wanted.type}"
        raise ShardError(f"{message}; make it again, or select without it") from error
    return array
