"""What takes the place of a sample that cannot be used: the next one of its dataset, as samples lie in the shards.

Which one that is depends on the sample alone, so that it is the same for any number of ranks and workers, and whenever
a run goes on from a state. Only single samples are replaced; where a file fails, reading ends with its name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from tarloom.errors import TooManyErrors
from tarloom.read.feed.fetching.fetch import Fetched, Fetcher
from tarloom.read.feed.fetching.sources import Source
from tarloom.read.feed.order.chance import Numbers
from tarloom.read.feed.order.places import Places
from tarloom.read.ledger import Skipped

TRIES = 100
"""Samples that follow each other and are all bad end the reading."""


class Work(Protocol):
    """Samples of which something is being made."""

    samples: Fetched

    def errors(self) -> Mapping[int, Skipped]:
        """What happened to those of which it cannot be made, by their numbers."""
        ...

    def replace(self, rows: Numbers, others: Fetched) -> None:
        """Take other samples instead of these, in this order."""
        ...


class Spares:
    """Replaces samples of these sources."""

    def __init__(self, sources: Sequence[Source], fetcher: Fetcher) -> None:
        self._sources, self._fetcher = tuple(sources), fetcher

    def mend(self, work: Work) -> dict[int, Skipped]:
        """Replace samples until all are well; what happened to the first ones.

        Raises TooManyErrors where one after the other cannot be used, and as Fetcher does.
        """
        failed = work.errors()
        first = {row: self._placed(error, work.samples.places, row) for row, error in failed.items()}
        for _ in range(TRIES):
            if failed:
                rows = np.array(sorted(failed))
                work.replace(rows, self._fetcher.fetch(self._next(work.samples.places.take(rows))))
                failed = work.errors()
        if failed:
            what = f"nor can any of the {TRIES} samples behind it be used"
            raise TooManyErrors(f"{first[min(failed)]}; {what}; mend them, or decode otherwise")
        return first

    def _placed(self, error: Skipped, places: Places, row: int) -> Skipped:
        source = self._sources[int(places.sources[row])]
        return replace(error, where=source.url(int(places.shards[row])))

    def _next(self, places: Places) -> Places:
        """The samples behind these; behind the last one of a dataset, its first."""
        where = zip(places.sources.tolist(), places.shards.tolist(), places.rows.tolist(), strict=True)
        found = [self._sources[source].behind(shard, row) for source, shard, row in where]
        shards, rows = (np.array(numbers, np.int64) for numbers in zip(*found, strict=True))
        return replace(places, shards=shards, rows=rows)
