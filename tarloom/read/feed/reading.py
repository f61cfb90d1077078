"""From places to batches: a span of steps is read at a time, the next span meanwhile, and threads assemble batches."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tarloom.read.feed.batches.assemble import Assembly, Batch
from tarloom.read.feed.batches.room import Room
from tarloom.read.feed.fetching.fetch import MARGIN, Fetched, Fetcher
from tarloom.read.feed.fetching.sources import Source
from tarloom.read.feed.fetching.spans import HELD, LOCAL_BYTES, LOCAL_ROWS, read_ahead, spans
from tarloom.read.feed.fetching.spares import Spares
from tarloom.read.feed.order.mixing import FeedOrder
from tarloom.read.feed.order.places import Places
from tarloom.read.feed.order.share import Share
from tarloom.read.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a rank reads its part of steps. Small and picklable."""

    sources: tuple[Source, ...]
    order: FeedOrder
    assembly: Assembly
    share: Share
    memory_bytes: int
    memory_map: bool = False
    """Members stay where they lie in local tars that can be mapped."""
    max_skipped: int | None = None
    """Samples that may be replaced in an iteration; None for no limit."""
    ledger: Ledger = field(default_factory=Ledger)
    """Counts what was replaced in batches that were taken, in this process."""

    def batches(self, epoch: int, steps: range, room: Room | None = None) -> Iterator[Batch]:
        """One for each step. steps: the positions in the epoch at which they begin. room: for pictures.

        Raises ShardError or StorageError that names what cannot be read, TooManyErrors.
        """
        fetcher, limited = Fetcher(self.sources, mapped=self.memory_map), Ledger(max_skipped=self.max_skipped)
        spares = Spares(self.sources, fetcher)
        begun = self.assembly.begun(self._samples(fetcher, epoch, steps), len(steps), room)
        try:
            for work in begun:
                skipped = spares.mend(work)
                self.ledger.count(len(work.samples), skipped)
                limited.count(len(work.samples), skipped)
                yield work.batch()
        finally:
            fetcher.close()  # before all that waits for it is ended
            del begun

    def _samples(self, fetcher: Fetcher, epoch: int, steps: range) -> Iterator[Fetched]:
        """Of each step."""
        seen = 0

        def read(span: range) -> Iterator[Fetched]:
            nonlocal seen
            parts = [self._mine(epoch, step) for step in span]
            found, ends = fetcher.fetch(Places.joined(parts)), np.cumsum([len(part) for part in parts])
            seen = found.sample_bytes
            numbers = [np.arange(end - len(part), end) for part, end in zip(parts, ends, strict=True)]
            return map(found.take, numbers)

        divided = spans(steps, most=lambda: self._most(seen), window=self._window)
        for found in read_ahead(read, divided, close=fetcher.close, missing=fetcher.missing):
            yield from found

    def _most(self, seen: int) -> int:
        """Steps of a span. seen: bytes of a sample in the last one.

        Those that fulfil a condition, or have wide columns, may be far larger than the datasets' are on average.
        """
        size, sample_bytes = self.memory_bytes // HELD, max(source.sample_bytes for source in self.sources)
        sample_bytes = seen if seen > MARGIN * sample_bytes else sample_bytes
        if all(source.storage.is_local for source in self.sources):
            shards = sum(len(source.rows) for source in self.sources)
            size = min(size, max(LOCAL_BYTES, LOCAL_ROWS * shards * sample_bytes))
        return max(1, size // (sample_bytes * self.share.batch_size))

    @property
    def _window(self) -> int | None:
        """Samples, where all are of one dataset: its windows end where they do in the order."""
        shuffle = self.order.orders[0].shuffle
        return shuffle.window if shuffle is not None and len(self.order.orders) == 1 else None

    def _mine(self, epoch: int, first: int) -> Places:
        return self.share.places(self.order, epoch, first)
