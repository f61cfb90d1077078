"""Which rows of each shard take part in a feed: found out once, and kept as bits."""

import hashlib
from functools import cached_property

import numpy as np

from tarloom.errors import StaleIndex
from tarloom.format.ahead import ahead_where_it_waits
from tarloom.read.feed.order.chance import Numbers
from tarloom.read.plan.catalog import Catalog
from tarloom.read.plan.facts import Facts
from tarloom.read.plan.picking import numbers_of
from tarloom.read.plan.piece_plan import piece_of_rows
from tarloom.read.plan.pieces import Piece
from tarloom.read.view import View

KEPT_BYTES = 64 << 20
"""Of bits: of five hundred million rows. Of further shards it is found out anew whenever they are read."""


class Passing:
    """The rows that a view lets through. All of them where it does not choose; then nothing is read.

    Small and picklable. Raises ShardError, StorageError where tables cannot be read.
    """

    def __init__(self, catalog: Catalog, facts: Facts, view: View) -> None:
        self._catalog, self._facts, self._view = catalog, facts, view
        self._bits: dict[int, bytes] = {}

    @property
    def counts(self) -> Numbers:
        """Of each shard: int64 of shape (shards,)."""
        return self._found[0] if self._view.chooses else self._facts.rows

    @property
    def digest(self) -> str:
        """Of the numbers of all of them."""
        return self._found[1] if self._view.chooses else ""

    def of(self, shard: int, rows: Numbers) -> Numbers:
        """From numbers among the rows of a shard that pass, to those among all its rows."""
        if not self._view.chooses:
            return rows
        numbers = self._numbers(shard)
        if len(numbers) != self.counts[shard]:
            raise StaleIndex(
                f"{self._piece(shard).url}: its tables have changed since the feed was made; open it again"
            )
        return numbers[rows]

    def _numbers(self, shard: int) -> Numbers:
        bits = self._bits.get(shard)
        if bits is None:
            return numbers_of(self._piece(shard))
        return np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8)))

    @cached_property
    def _found(self) -> tuple[Numbers, str]:
        """Counts, digest; bits are filled by the way."""
        counts, digest, kept = np.zeros(len(self._facts), np.int64), hashlib.sha256(), 0
        shards = np.flatnonzero(self._facts.rows).tolist()
        pieces = map(self._piece, shards)
        found = ahead_where_it_waits(numbers_of, pieces, self._catalog.storage)
        for shard, numbers in zip(shards, found, strict=True):
            bits = _as_bits(numbers, int(self._facts.rows[shard]))
            counts[shard] = len(numbers)
            digest.update(bits)
            kept += len(bits)
            if kept <= KEPT_BYTES:
                self._bits[shard] = bits
        return counts, digest.hexdigest()

    def _piece(self, shard: int) -> Piece:
        rows = range(int(self._facts.rows[shard]))
        return piece_of_rows(self._catalog, self._facts, self._view, shard=shard, rows=rows)


def _as_bits(numbers: Numbers, rows: int) -> bytes:
    mask = np.zeros(rows, np.bool_)
    mask[numbers] = True
    return np.packbits(mask).tobytes()
