"""From places to batches: a span of steps is read at a time, the next span meanwhile, and threads assemble batches."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tarloom.format.cpus import cpu_share
from tarloom.read.feed.assemble import Assembly, Batch
from tarloom.read.feed.fetch import Fetched, fetch
from tarloom.read.feed.mixing import Sequence
from tarloom.read.feed.order import Places
from tarloom.read.feed.share import Share
from tarloom.read.feed.sources import Source
from tarloom.read.samples.ahead import ahead


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a rank reads its part of steps. Small and picklable."""

    sources: tuple[Source, ...]
    sequence: Sequence
    assembly: Assembly
    share: Share
    memory_bytes: int

    def batches(self, epoch: int, steps: range) -> Iterator[Batch]:
        """One for each step. steps: the positions in the epoch at which they begin."""
        with ThreadPoolExecutor(cpu_share(), thread_name_prefix="tarloom-feed") as pool:
            for fetched in ahead(lambda span: self._fetched(epoch, span), self._spans(steps), threads=1, each=2):
                for samples in fetched:
                    yield self.assembly.batch(samples, pool)[0]

    def _spans(self, steps: range) -> Iterator[range]:
        """Steps that are read together: few at first, then as many as memory may hold twice."""
        sample_bytes = max(source.sample_bytes for source in self.sources)
        most = max(1, self.memory_bytes // (3 * sample_bytes * self.share.batch_size))
        first, size = 0, 1
        while first < len(steps):
            yield steps[first : first + size]
            first, size = first + size, min(2 * size, most)

    def _fetched(self, epoch: int, span: range) -> list[Fetched]:
        parts = [self._mine(epoch, step) for step in span]
        read = fetch(self.sources, Places.joined(parts))
        ends = np.cumsum([len(part) for part in parts])
        return [read.take(np.arange(end - len(part), end)) for part, end in zip(parts, ends, strict=True)]

    def _mine(self, epoch: int, first: int) -> Places:
        return self.share.places(self.sequence, epoch, first)
