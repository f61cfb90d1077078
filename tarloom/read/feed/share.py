"""Who reads what: steps of a global batch each, divided among ranks; pure functions of positions."""

from dataclasses import dataclass

import numpy as np

from tarloom.read.feed.order import Numbers, Places
from tarloom.read.plan.pieces import part_of


@dataclass(frozen=True, kw_only=True)
class Share:
    """One rank's part of every step.

    A step is the next batch_size x world_size samples of the sequence, whatever the number of ranks; which of them are
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

    def steps(self, samples: int, *, drop_last: bool) -> int:
        """In so many samples. The last one may be smaller, unless it is dropped."""
        return samples // self.step_samples if drop_last else -(-samples // self.step_samples)

    def mine(self, step: Places) -> Numbers:
        """The rank's samples of a step, by their numbers in it, ascending.

        Ranks get equal numbers; of a smaller last step, equal within one.
        """
        by_block = np.lexsort((step.ranks, step.passes, step.sources))
        first, last = part_of(len(step), self.rank, self.world_size)
        return np.sort(by_block[first:last])
