"""The datasets behind a feed: how many rows of each shard take part, and pieces for any of them."""

import hashlib
from dataclasses import replace
from functools import cached_property

from tarloom.read.dataset import Dataset
from tarloom.read.feed.order import Numbers
from tarloom.read.plan.catalog import Facts
from tarloom.read.plan.picking import Picker, numbers_of
from tarloom.read.plan.pieces import Piece
from tarloom.read.plan.planning import piece_of_rows, viewed_bytes


class Source:
    """A dataset as a feed reads it. Small and picklable: which rows pass is found out where they are read."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset.on_error("row")
        """A sample that cannot be read is a row with an error, to be replaced."""
        self._catalog, self._view = dataset.catalog, self.dataset.view
        self._facts: Facts = dataset.catalog.facts(tolerant=dataset.errors != "raise")

    @cached_property
    def rows(self) -> Numbers:
        """How many rows of each shard take part: int64 of shape (shards,)."""
        return Picker(catalog=self._catalog, facts=self._facts, view=self._view).rows

    @cached_property
    def sample_bytes(self) -> int:
        """About how many bytes a sample has."""
        return int(viewed_bytes(self._facts, self._view).sum() // max(int(self._facts.rows.sum()), 1))

    @cached_property
    def fingerprint(self) -> str:
        """Of the samples that take part, and of their order."""
        found = hashlib.sha256(repr(self._view.where).encode())
        for shard, identity in zip(self._catalog.shards, self._facts.identities(), strict=True):
            found.update(f"\n{shard.shard} {identity}".encode())
        found.update(self.rows.tobytes())
        return found.hexdigest()[:16]

    def piece(self, shard: int, rows: Numbers) -> Piece:
        """These rows, ascending, by their numbers among those of the shard that take part."""
        numbers = self._passing(shard)[rows] if self._view.chooses else rows
        view = replace(self._view, where=None)  # they are known to pass
        return piece_of_rows(self._catalog, self._facts, view, shard=shard, rows=numbers.tolist())

    def _passing(self, shard: int) -> Numbers:
        rows = range(self._facts.rows[shard])
        return numbers_of(piece_of_rows(self._catalog, self._facts, self._view, shard=shard, rows=rows))
