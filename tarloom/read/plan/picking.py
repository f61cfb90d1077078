"""Count samples, draw a random sample and read columns from parquet alone, without opening a tar."""

import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import index

import numpy as np
import pyarrow as pa

from tarloom.errors import JoinError, ShardError, StorageError, UsageError
from tarloom.format.ahead import ahead_where_it_waits
from tarloom.format.storage import Storage
from tarloom.read.columns.join import numbers_to_read
from tarloom.read.plan.catalog import Catalog
from tarloom.read.plan.facts import Facts
from tarloom.read.plan.indexes import cached_index
from tarloom.read.plan.piece_plan import PiecePlan, by_shard, piece_of_rows
from tarloom.read.plan.pieces import WHOLE_SHARD, Piece
from tarloom.read.samples.batches import read_piece
from tarloom.read.view import View

_log = logging.getLogger(__name__)

TRIES = 16
"""Rows that are tried for each that is wanted by chance, before every shard is asked how many it has."""


@dataclass(frozen=True, kw_only=True)
class Picker:
    """Samples that a view lets through. Several shards are looked at at once; what is kept of each is a number."""

    catalog: Catalog
    facts: Facts
    view: View

    def count(self) -> int:
        """How many there are."""
        return int(self.rows.sum())

    @property
    def rows(self) -> np.ndarray:
        """How many of each shard: int64 of shape (shards,)."""
        return self._counts if self.view.chooses else self.facts.rows

    def pick(self, count: int, seed: int) -> Iterator[Piece]:
        """So many, each as likely as any other, in the dataset's order; all, where there are no more.

        Raises UsageError for a count that cannot be, TypeError for what is no whole number.
        """
        count, seed = index(count), index(seed)  # Python's own: chance knows no others
        if count < 0:
            raise UsageError(f"a sample cannot have {count} samples; ask for 0 or more")
        chance, total = random.Random(seed), int(self.facts.rows.sum())
        rows = chance.sample(range(total), min(count * (TRIES if self.view.chooses else 1), total))
        if self.view.chooses:
            # Those that pass are as likely as all others that would: a few shards are enough for a few samples.
            passing = set(self._passing(rows))
            enough = len(passing) >= count or len(rows) == total
            rows = [row for row in rows if row in passing][:count] if enough else self._of_all(count, chance)
        for shard, mine in by_shard(self.facts.rows, rows):
            yield self._piece(shard, mine.tolist())

    def _passing(self, rows: Iterable[int]) -> Iterator[int]:
        """Those of the rows, by their numbers in the dataset, that the view lets through."""
        places = list(by_shard(self.facts.rows, rows))
        for (shard, _), numbers in zip(places, self._numbers(self._pieces(places)), strict=True):
            yield from (self._starts[shard] + numbers).tolist()

    def _of_all(self, count: int, chance: random.Random) -> list[int]:
        """So many of all rows that pass, by their numbers in the dataset, when each shard has said how many it has."""
        total = int(self._counts.sum())
        places = list(by_shard(self._counts, chance.sample(range(total), min(count, total))))
        whole = self._pieces((shard, np.arange(self.facts.rows[shard])) for shard, _ in places)
        found = zip(places, self._numbers(whole), strict=True)
        return [row for (shard, mine), numbers in found for row in (self._starts[shard] + numbers[mine]).tolist()]

    @cached_property
    def _counts(self) -> np.ndarray:
        """Rows that pass: int64 of shape (shards,)."""
        counts = np.zeros(len(self.facts), np.int64)
        shards = PiecePlan(catalog=self.catalog, facts=self.facts, view=self.view, target_bytes=WHOLE_SHARD)
        counts[self.facts.rows > 0] = [len(numbers) for numbers in self._numbers(shards)]
        return counts

    @cached_property
    def _starts(self) -> np.ndarray:
        """The number of each shard's first row in the dataset."""
        starts: np.ndarray = np.cumsum(self.facts.rows) - self.facts.rows
        return starts

    def _numbers(self, pieces: Iterable[Piece]) -> Iterator[np.ndarray]:
        return ahead_where_it_waits(numbers_of, pieces, self.catalog.storage)

    def _pieces(self, places: Iterable[tuple[int, np.ndarray]]) -> Iterator[Piece]:
        return (self._piece(shard, rows.tolist()) for shard, rows in places)

    def _piece(self, shard: int, rows: Sequence[int]) -> Piece:
        return piece_of_rows(self.catalog, self.facts, self.view, shard=shard, rows=rows)


def column_batches(pieces: Iterable[Piece], storage: Storage) -> Iterator[pa.RecordBatch]:
    """Keys and joined columns, in order, of pieces without members; several are read at once."""
    for batches in ahead_where_it_waits(lambda piece: list(read_piece(piece)), pieces, storage):
        yield from batches


def numbers_of(piece: Piece) -> np.ndarray:
    """The numbers of the rows that its view lets through.

    Where a table cannot be asked, what becomes of that is the view's choice: the end, no rows, or all, which will come
    as failed ones. Where it lacks a row, it is the end: how many samples that costs depends on who reads them how.
    """
    try:
        return numbers_to_read(piece, cached_index(piece.storage, piece.shard, piece.tar, piece.identity))
    except JoinError:
        raise
    except (ShardError, StorageError) as error:
        if piece.view.on_error == "raise":
            raise
        numbers = piece.numbers
        if piece.view.on_error == "row":
            return numbers
        _log.warning("%s: %d samples left out: %s", piece.url, len(numbers), error)
        return numbers[:0]
