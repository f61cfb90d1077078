"""Which dataset each sample of a feed is from, and which of that dataset's it is: pure functions of the position."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tarloom.read.feed.order import Numbers, Order, Places


class Mix(Protocol):
    """How datasets are mixed."""

    @property
    def samples(self) -> int:
        """Of an epoch."""
        ...

    def pick(self, epoch: int, positions: Numbers) -> tuple[Numbers, Numbers]:
        """Of the samples at these positions of an epoch: their datasets, and their positions in the endless sequence
        that is all passes of that dataset."""
        ...


@dataclass(frozen=True, kw_only=True)
class One:
    """A dataset alone: every epoch is a pass."""

    samples: int

    def pick(self, epoch: int, positions: Numbers) -> tuple[Numbers, Numbers]:
        """See Mix."""
        return np.zeros_like(positions), epoch * self.samples + positions


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """All samples of a feed in their order, the same for any number of ranks and workers, and for any batch size."""

    orders: tuple[Order, ...]
    mix: Mix

    @property
    def samples(self) -> int:
        """Of an epoch."""
        return self.mix.samples

    def places(self, epoch: int, positions: Numbers) -> Places:
        """Where the samples at these positions of an epoch lie."""
        sources, within = self.mix.pick(epoch, positions)
        used = np.unique(sources).tolist()
        groups = [np.flatnonzero(sources == source) for source in used]
        found = [
            self.orders[source].places(within[mine], source=source) for source, mine in zip(used, groups, strict=True)
        ]
        return Places.joined(found).take(np.argsort(np.concatenate(groups), kind="stable"))
