"""The datasets behind a feed: how many rows of each shard take part, and pieces for any of them."""

import hashlib
from dataclasses import replace
from functools import cached_property

from tarloom.format.storage import Storage
from tarloom.read.dataset import Dataset
from tarloom.read.feed.order import Numbers
from tarloom.read.feed.passing import Passing
from tarloom.read.plan.catalog import Facts
from tarloom.read.plan.pieces import Piece
from tarloom.read.plan.planning import piece_of_rows, viewed_bytes


class Source:
    """A dataset as a feed reads it: small and picklable.

    What its files lack, or cannot give any more, is raised while it is read, whatever the dataset does with errors;
    but shards that cannot be opened are left out where it does not raise them.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._catalog, self._view = dataset.catalog, dataset.on_error("raise").view
        self._facts: Facts = dataset.catalog.facts(tolerant=dataset.errors != "raise")
        self._passing = Passing(self._catalog, self._facts, self._view)

    @property
    def storage(self) -> Storage:
        """Where the shards lie."""
        return self._catalog.storage

    @property
    def rows(self) -> Numbers:
        """How many rows of each shard take part: int64 of shape (shards,)."""
        return self._passing.counts

    @cached_property
    def sample_bytes(self) -> int:
        """About how many bytes a sample has."""
        return int(viewed_bytes(self._facts, self._view).sum() // max(int(self._facts.rows.sum()), 1))

    @cached_property
    def fingerprint(self) -> str:
        """Of the samples that take part, and of their order."""
        found = hashlib.sha256(f"{self._view.where} {self._passing.digest}".encode())
        for shard, identity in zip(self._catalog.shards, self._facts.identities(), strict=True):
            found.update(f"\n{shard.shard} {identity}".encode())
        found.update(self.rows.tobytes())
        return found.hexdigest()[:16]

    def piece(self, shard: int, rows: Numbers) -> Piece:
        """These rows, ascending, by their numbers among those of the shard that take part."""
        numbers = self._passing.of(shard, rows)
        view = replace(self._view, where=None)  # they are known to pass
        return piece_of_rows(self._catalog, self._facts, view, shard=shard, rows=numbers.tolist())
