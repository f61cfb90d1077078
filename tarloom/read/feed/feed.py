"""The feed itself: batches of numpy arrays, in an order that is a pure function, from any place of it on.

    feed = ds.to_numpy(256, seed=1, decode=RandomCrop(224))
    for batch in feed: ...                  # {"__key__": [...], "jpg": uint8 (256, 224, 224, 3), ...}
    state = feed.state_dict()               # small; feed.load_state_dict(state) goes on there, with any number of ranks

Here is only where the feed stands. order.places says which samples come, Share which of them are ours, and Reading
makes batches of them.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from tarloom.errors import UsageError
from tarloom.read.feed.batches.assemble import Assembly, Batch
from tarloom.read.feed.batches.room import Room
from tarloom.read.feed.fetching.sources import Source
from tarloom.read.feed.order.mixing import FeedOrder
from tarloom.read.feed.order.quality import shuffle_quality
from tarloom.read.feed.order.share import Share
from tarloom.read.feed.reading import Reading
from tarloom.read.feed.state import Fingerprint, State, fingerprint, whole
from tarloom.read.ledger import Ledger

Taken = TypeVar("Taken")
GIB = 1 << 30
EPOCHS = 1 << 31
"""More than any training has; all their samples together are counted in 64 bits."""


@dataclass(frozen=True, kw_only=True)
class StepStride:
    """Which steps are ours, where several processes of a rank read them in turn, as a torch DataLoader's do."""

    first: int = 0
    """Step, counted from where the iteration begins."""
    every: int = 1


class Feed:
    """An endless number of epochs, each an iteration of batches; every sample of an epoch once, over all ranks.

    An iteration that is broken off begins its epoch anew the next time, unless a state is loaded.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        order: FeedOrder,
        assembly: Assembly,
        share: Share,
        *,
        drop_last: bool = False,
        memory_bytes: int = GIB,
        memory_map: bool = False,
        max_skipped: int | None = None,
    ) -> None:
        self._reading = Reading(
            sources=tuple(sources),
            order=order,
            assembly=assembly,
            share=share,
            memory_bytes=memory_bytes,
            memory_map=memory_map,
            max_skipped=max_skipped,
        )
        self._drop_last = drop_last
        self._epoch = self._begin = self._position = 0
        self._iteration = 0
        """A number that is of the iteration that was begun last, as long as the feed is not moved."""

    def __len__(self) -> int:
        """Steps of an epoch, the same for every rank."""
        return len(self._steps(0, StepStride()))

    @property
    def ledger(self) -> Ledger:
        """Counts the bad samples that were replaced in batches of this process, in all epochs."""
        return self._reading.ledger

    @property
    def epoch(self) -> int:
        """The one that the next iteration is of, or goes on with."""
        return self._epoch

    @property
    def step_samples(self) -> int:
        """Samples of a step, of all ranks together."""
        return self._reading.share.step_samples

    @property
    def array_bytes(self) -> list[int]:
        """Of the pictures of a batch, by their members."""
        return self._reading.assembly.array_bytes(min(self._reading.share.batch_size, self._samples))

    @property
    def left_out(self) -> Mapping[str, int]:
        """Of each bucket, the samples for which an epoch has no group, and those that are in no bucket."""
        return self._reading.order.left_out

    def shuffle_quality(self, batch: int | None = None) -> float:
        """How well batches mix, from 0 to about 1; 1 is as good as a random batch (quality.py).

        batch: samples per batch, by default a step's. For mixed datasets, the worst of them.
        """
        orders = self._reading.order.orders
        return min(shuffle_quality(order, batch or self.step_samples) for order in orders)

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; where a loaded state stands in it, stay there."""
        if epoch != self._epoch:
            self.go(epoch, 0)

    def go(self, epoch: int, samples: int) -> None:
        """The next iteration begins behind so many samples of an epoch. Raises UsageError for what is no place."""
        epoch, samples = whole("epoch", epoch), whole("samples", samples)
        if not 0 <= epoch < EPOCHS or not 0 <= samples <= sys.maxsize:
            what = f"there are no {samples} samples of epoch {epoch}"
            raise UsageError(f"epochs and samples are counted from 0, epochs to {EPOCHS - 1}: {what}")
        if (epoch, samples) != (self._epoch, self._position):
            self._iteration += 1
        self._epoch, self._begin, self._position = epoch, samples, samples

    def state_dict(self) -> dict[str, Any]:
        """Where the feed stands: behind the batch that was taken last. The same for every rank."""
        return State(fingerprint=self.fingerprint, epoch=self._epoch, samples=self._position).to_json()

    def load_state_dict(self, facts: Mapping[str, Any]) -> None:
        """Go on there. Raises UsageError for a state of other data, or of another order."""
        state = State.from_json(facts)
        state.check(self.fingerprint)
        self._reading.share.check(self._reading.order, state.samples)
        self.go(state.epoch, state.samples)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Of all that decides which sample comes when."""
        data = [source.fingerprint for source in self._reading.sources]
        return fingerprint(data, self._reading.order, seed=self._reading.assembly.seed)

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the epoch; behind it the feed stands at the beginning of the next one."""
        steps = self.steps()
        return self.counting(steps, self.batches(steps))

    def steps(self, stride: StepStride = StepStride()) -> range:
        """Positions in the epoch at which the steps of the next iteration begin, those of the stride."""
        return self._steps(self._begin, stride)

    def batches(self, steps: range, room: Room | None = None) -> Iterator[Batch]:
        """One for each step, wherever the feed stands in the epoch. room: for their pictures, else it is its own."""
        return self._reading.batches(self._epoch, steps, room)

    def counting(self, steps: range, batches: Iterator[Taken], *, all_steps: bool = True) -> Iterator[Taken]:
        """Batches of these steps, however they were read and changed; the feed stands behind the one taken last.

        all_steps: behind the last one, the feed stands at the beginning of the next epoch. Raises UsageError where the
        feed is moved, or another iteration is begun, before the last one is taken.
        """
        self._position = min(steps.start, self._samples)
        self._iteration += 1
        return self._counting(self._iteration, self._epoch, steps, batches, all_steps=all_steps)

    def _counting(
        self, iteration: int, epoch: int, steps: range, batches: Iterator[Taken], *, all_steps: bool
    ) -> Iterator[Taken]:
        self._check_current(iteration, epoch, steps)
        self._begin = 0
        for first, batch in zip(steps, batches, strict=True):
            self._position = min(first + steps.step, self._samples)
            yield batch
            self._check_current(iteration, epoch, steps)
        if all_steps:
            self.go(epoch + 1, 0)

    def _check_current(self, iteration: int, epoch: int, steps: range) -> None:
        """Raises UsageError where the feed is elsewhere by now: a state would be of that place, and batches of this."""
        if iteration != self._iteration:
            raise UsageError(
                f"this iteration began in epoch {epoch} behind {steps.start} samples, and the feed was moved since, or "
                "iterated over anew; call set_epoch and load_state_dict before iter(feed), and take batches of the "
                "iteration that was begun last"
            )

    def _steps(self, begin: int, stride: StepStride) -> range:
        size = self.step_samples
        end = self._samples - size + 1 if self._drop_last else self._samples
        return range(begin + stride.first * size, end, stride.every * size)

    @property
    def _samples(self) -> int:
        return self._reading.order.samples
