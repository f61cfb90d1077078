"""Who reads what: steps of a global batch each, divided among ranks; pure functions of positions."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from tarloom.errors import UsageError
from tarloom.read.feed.order.chance import Numbers
from tarloom.read.feed.order.mixing import FeedOrder
from tarloom.read.feed.order.places import Places
from tarloom.read.plan.pieces import part_of

TEAM: Final = 8
"""Ranks that divide their samples by blocks. With more of them, the batch of a rank would be of few blocks."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """One rank's part of every step.

    A step is the next batch_size x world_size samples of the order, whatever the number of ranks; which of them are
    a rank's is free, and so decided that it reads few blocks.
    """

    batch_size: int
    """Of a rank."""
    rank: int = 0
    world_size: int = 1

    @property
    def step_samples(self) -> int:
        """Of all ranks together."""
        return self.batch_size * self.world_size

    def check(self, order: FeedOrder, samples: int) -> None:
        """Raises UsageError unless steps can begin behind so many samples of an epoch."""
        if samples % min(order.group, self.batch_size) and samples != order.samples:
            raise UsageError(
                f"batch_size {self.batch_size} cannot go on behind {samples} samples: batches would be of two buckets; "
                f"use one that divides both {order.group} and {samples}"
            )

    def places(self, order: FeedOrder, epoch: int, begin: int) -> Places:
        """Where the rank's samples of the step lie that begins at this position of the epoch, in their order.

        Ranks get equal numbers; of a smaller last step, equal within one. But where samples come in groups, a rank's
        are of one group: there its last ones may get fewer, or none.
        """
        size = min(self.step_samples, order.samples - begin)
        if order.group > 1:
            first, last = (min(rank * self.batch_size, size) for rank in (self.rank, self.rank + 1))
            return order.places(epoch, begin + np.arange(first, last))
        first, last = part_of(size, self.rank, self.world_size)
        team = self.rank - self.rank % TEAM
        start, end = team * size // self.world_size, min(team + TEAM, self.world_size) * size // self.world_size
        places = order.places(epoch, begin + np.arange(start, end))
        return places.take(_by_block(places, first - start, last - start))


def _by_block(places: Places, first: int, last: int) -> Numbers:
    """Those from the first to the last (exclusive) in the order of their blocks, by their numbers, ascending."""
    if last - first == len(places):
        return np.arange(len(places))
    return np.sort(np.lexsort((places.ranks, places.passes, places.sources))[first:last])
