"""The datasets behind a feed: how many rows of each shard take part, and pieces for any of them."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tarloom.format.storage import Storage
from tarloom.format.storage.cached import cached
from tarloom.read.dataset import Dataset
from tarloom.read.feed.fetching.passing import Passing
from tarloom.read.feed.order.chance import Numbers
from tarloom.read.plan.facts import Facts
from tarloom.read.plan.piece_plan import piece_of_rows, viewed_bytes
from tarloom.read.plan.pieces import Piece
from tarloom.read.view import View


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Where what is read of object stores is kept on this machine."""

    folder: str
    limit: int
    """Bytes."""

    def of(self, storage: Storage) -> Storage:
        """The storage, read through the cache. Raises UsageError for a limit that is too small."""
        return cached(storage, self.folder, self.limit)


class Source:
    """A dataset as a feed reads it: small and picklable.

    What its files lack, or cannot give any more, is raised while it is read, whatever the dataset does with errors;
    but shards that cannot be opened are left out where it does not raise them.
    """

    def __init__(self, dataset: Dataset, cache: Cache | None = None) -> None:
        self._catalog, self.view = dataset.catalog, dataset.on_error("raise").view
        self._facts: Facts = dataset.catalog.facts(tolerant=dataset.errors != "raise")
        self._passing = Passing(self._catalog, self._facts, self.view)

        self.storage = dataset.catalog.storage if cache is None else cache.of(dataset.catalog.storage)
        """Where the shards lie."""

    @property
    def rows(self) -> Numbers:
        """How many rows of each shard take part: int64 of shape (shards,)."""
        return self._passing.counts

    @cached_property
    def _filled(self) -> Numbers:
        """The shards of which rows take part."""
        return np.flatnonzero(self.rows)

    @cached_property
    def sample_bytes(self) -> int:
        """About how many bytes a sample has."""
        return int(viewed_bytes(self._facts, self.view).sum() // max(int(self._facts.rows.sum()), 1))

    @cached_property
    def tar_bytes(self) -> int:
        """About how many bytes of the tars there are for each sample, whatever is read of it."""
        return sum(shard.size for shard in self._catalog.shards) // max(int(self._facts.rows.sum()), 1)

    @cached_property
    def fingerprint(self) -> str:
        """Of the samples that take part, and of their order.

        A condition has its part by the rows for which it is true: its text is as duckdb writes it, in every version
        perhaps otherwise.
        """
        found = hashlib.sha256(self._passing.digest.encode())
        for shard, identity in zip(self._catalog.shards, self._facts.identities(), strict=True):
            found.update(f"\n{shard.shard} {identity}".encode())
        found.update(self.rows.tobytes())
        return found.hexdigest()[:16]

    def url(self, shard: int) -> str:
        """The address of a shard's tar."""
        return self.storage.describe(self._catalog.shards[shard].tar.name)

    def behind(self, shard: int, row: int) -> tuple[int, int]:
        """The place of the sample that follows; behind the last one of the dataset lies the first one."""
        if row + 1 < self.rows[shard]:
            return shard, row + 1
        filled = self._filled
        return int(filled[(np.searchsorted(filled, shard) + 1) % len(filled)]), 0

    def numbers(self, shard: int, rows: Numbers) -> Numbers:
        """Rows by their numbers in the shard, of rows by their numbers among those that take part."""
        return self._passing.of(shard, rows)

    @property
    def reads(self) -> tuple[int, View]:
        """Equal for sources, in one process, that read the same of the same files."""
        return id(self._catalog), replace(self.view, where=None)

    def piece(self, shard: int, numbers: Numbers) -> Piece:
        """These rows, ascending, by their numbers in the shard; they are known to take part."""
        piece = piece_of_rows(self._catalog, self._facts, self.reads[1], shard=shard, rows=numbers.tolist())
        return replace(piece, storage=self.storage)
