"""The feed itself: batches of numpy arrays, in an order that is a pure function, from any place of it on.

    feed = ds.to_numpy(256, seed=1, decode=RandomCrop(224))
    for batch in feed: ...                  # {"__key__": [...], "jpg": uint8 (256, 224, 224, 3), ...}
    state = feed.state_dict()               # small; feed.load_state_dict(state) goes on there, with any number of ranks

sequence.places says which samples; Share, which are ours; fetch reads them, a span of steps at a time and one span
ahead; Assembly makes batches of them.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from tarloom.errors import UsageError
from tarloom.format.cpus import cpu_share
from tarloom.read.feed.assemble import Assembly, Batch
from tarloom.read.feed.fetch import Fetched, fetch
from tarloom.read.feed.mixing import Sequence as SampleSequence
from tarloom.read.feed.order import Numbers, Places
from tarloom.read.feed.share import Share
from tarloom.read.feed.sources import Source
from tarloom.read.feed.state import State
from tarloom.read.samples.ahead import ahead

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One of several processes of a rank that read steps in turn, as a torch DataLoader's do."""

    number: int = 0
    workers: int = 1


class Feed:
    """An endless number of epochs, each an iteration of batches; every sample of an epoch once, over all ranks."""

    def __init__(
        self,
        sources: Sequence[Source],
        sequence: SampleSequence,
        assembly: Assembly,
        share: Share,
        *,
        drop_last: bool = False,
        memory_bytes: int = GIB,
    ) -> None:
        self.sources, self.sequence, self.assembly, self.share = tuple(sources), sequence, assembly, share
        self.drop_last, self.memory_bytes = drop_last, memory_bytes
        self.epoch = 0
        self._begin = self._position = 0

    def __len__(self) -> int:
        """Steps of an epoch."""
        return self.share.steps(self.sequence.samples, drop_last=self.drop_last)

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; where a loaded state stands in it, stay there."""
        if epoch != self.epoch:
            self.epoch, self._begin, self._position = epoch, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the feed stands: behind the batch that was taken last."""
        return State(fingerprint=self.fingerprint, epoch=self.epoch, samples=self._position).to_json()

    def load_state_dict(self, facts: Mapping[str, Any]) -> None:
        """Go on there. Raises UsageError for a state of other data, or of another order."""
        state = State.from_json(facts)
        if state.fingerprint != self.fingerprint:
            raise UsageError("the feed's state is of other data or another order; open what it was saved from")
        self.epoch, self._begin, self._position = state.epoch, state.samples, state.samples

    @property
    def fingerprint(self) -> str:
        """Of all that decides which sample comes when."""
        facts = [source.fingerprint for source in self.sources]
        return hashlib.sha256(repr((facts, self.sequence, self.assembly.seed)).encode()).hexdigest()[:16]

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(Worker())

    def batches(self, worker: Worker) -> Iterator[Batch]:
        """The rest of the epoch, as this worker reads it. The next iteration is the next epoch."""
        begin, self._begin = self._begin, 0
        step_samples = self.share.step_samples
        steps = self.share.steps(self.sequence.samples - begin, drop_last=self.drop_last)
        mine = range(worker.number, steps, worker.workers)
        for step, batch in zip(mine, self._read(begin, mine), strict=True):
            self._position = min(begin + (step + 1) * step_samples, self.sequence.samples)
            yield batch
        self.epoch, self._position = self.epoch + 1, 0

    def _read(self, begin: int, steps: range) -> Iterator[Batch]:
        with ThreadPoolExecutor(cpu_share(), thread_name_prefix="tarloom-feed") as pool:
            for fetched in ahead(lambda span: self._fetched(begin, span), self._spans(steps), threads=1, each=2):
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

    def _fetched(self, begin: int, span: range) -> list[Fetched]:
        parts = [self._mine(begin, step) for step in span]
        read = fetch(self.sources, Places.joined(parts))
        ends = np.cumsum([len(part) for part in parts])
        return [read.take(np.arange(end - len(part), end)) for part, end in zip(parts, ends, strict=True)]

    def _mine(self, begin: int, step: int) -> Places:
        first = begin + step * self.share.step_samples
        positions: Numbers = np.arange(first, min(first + self.share.step_samples, self.sequence.samples))
        places = self.sequence.places(self.epoch, positions)
        return places.take(self.share.mine(places))
