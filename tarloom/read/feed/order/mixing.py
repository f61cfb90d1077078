"""Which dataset each sample of a feed is from, and which of that dataset's it is: pure functions of the position.

A bucket is a dataset too: the samples of another for which something is true.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Final, Protocol

import numpy as np

from tarloom.read.feed.order.chance import Numbers, below, permutation
from tarloom.read.feed.order.places import Order, Places, groups, shuffled

SECTION: Final = 1 << 14
SECTION_OF_EACH: Final = 64
"""Groups of an epoch are drawn in sections of about so many, or so many a dataset; each has about the same mixture."""


class Mix(Protocol):
    """How datasets are mixed."""

    @property
    def samples(self) -> int:
        """Of an epoch."""
        ...

    @property
    def group(self) -> int:
        """So many that follow each other are of one dataset."""
        ...

    @property
    def fingerprint(self) -> tuple[int | str, ...]:
        """All that it depends on, in whole numbers and texts; another mix has another one."""
        ...

    def pick(self, epoch: int, positions: Numbers) -> tuple[Numbers, Numbers]:
        """Of the samples at these positions of an epoch: their datasets, and their positions in the endless sequence
        that is all passes of that dataset."""
        ...


@dataclass(frozen=True, kw_only=True)
class One:
    """A dataset alone: every epoch is a pass."""

    samples: int
    group: int = 1

    @property
    def fingerprint(self) -> tuple[int | str, ...]:
        """See Mix."""
        return ("one", self.samples, self.group)

    def pick(self, epoch: int, positions: Numbers) -> tuple[Numbers, Numbers]:
        """See Mix."""
        return np.zeros_like(positions), epoch * self.samples + positions


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """Several datasets, each with a fixed number of groups in every epoch, in an order by chance."""

    groups: tuple[int, ...]
    """Of each dataset in an epoch."""
    strides: tuple[int, ...]
    """Samples by which each dataset moves on from epoch to epoch."""
    seed: int
    group: int = 1

    @property
    def samples(self) -> int:
        """See Mix."""
        return self._all * self.group

    @property
    def fingerprint(self) -> tuple[int | str, ...]:
        """See Mix. There are as many groups as strides."""
        return ("mixed", self.seed, self.group, *self.groups, *self.strides)

    @property
    def left_out(self) -> Numbers:
        """Samples of each dataset that no group of an epoch has room for, others each time."""
        left: Numbers = np.array(self.strides) - np.array(self.groups) * self.group
        return left

    def of(self, datasets: Sequence[int]) -> "Mixed":
        """The same of these alone."""
        groups, strides = ([of[number] for number in datasets] for of in (self.groups, self.strides))
        return replace(self, groups=tuple(groups), strides=tuple(strides))

    def pick(self, epoch: int, positions: Numbers) -> tuple[Numbers, Numbers]:
        """See Mix."""
        places, offsets = np.divmod(positions, self.group)
        datasets, numbers = np.empty_like(places), np.empty_like(places)
        for section, mine in self._by_section(epoch, places):
            start, drawn, counted = _section(self, epoch, section)
            datasets[mine], numbers[mine] = drawn[places[mine] - start], counted[places[mine] - start]
        return datasets, epoch * np.array(self.strides)[datasets] + numbers * self.group + offsets

    def _by_section(self, epoch: int, places: Numbers) -> list[tuple[int, Numbers]]:
        """Sections, and which of these places lie in them."""
        if not len(places):
            return []
        # A section begins within one group of each dataset from where it would with exact shares.
        least, most = (int(place) * self._sections // self._all for place in (places.min(), places.max()))
        first, last = max(least - 1, 0), min(most + 2, self._sections)
        starts = [int(self.before(epoch, section).sum()) for section in range(first, last)]
        found = first + np.searchsorted(starts, places, side="right") - 1
        return [(int(found[mine[0]]), mine) for mine in groups(found)]

    def before(self, epoch: int, section: int) -> Numbers:
        """Groups of each dataset that come before a section. Which section gets what cannot be shared out evenly is by
        chance."""
        of = self._sections
        return (
            np.array(self.groups) * section + below(of, self.seed, "section", epoch, np.arange(len(self.groups)))
        ) // of

    @property
    def _all(self) -> int:
        return sum(self.groups)

    @property
    def _sections(self) -> int:
        return max(1, self._all // max(SECTION, SECTION_OF_EACH * len(self.groups)))


def by_weights(weights: Sequence[float], *, samples: int, seed: int, group: int = 1) -> Mixed:
    """Datasets by weights, in epochs of about so many samples; each goes on where it stood, into its next pass.

    weights: greater than 0. A dataset may get no group where its weight is small.
    """
    exact = [weight / math.fsum(weights) * (samples // group) for weight in weights]
    groups = [math.floor(share) for share in exact]
    by_rest = sorted(range(len(exact)), key=lambda number: groups[number] - exact[number])
    for number in by_rest[: samples // group - sum(groups)]:
        groups[number] += 1
    return Mixed(groups=tuple(groups), strides=tuple(count * group for count in groups), seed=seed, group=group)


def by_size(sizes: Sequence[int], *, seed: int, group: int) -> Mixed:
    """As many groups of each dataset as it has samples for: every epoch is a pass of each, without some at its end."""
    return Mixed(groups=tuple(size // group for size in sizes), strides=tuple(sizes), seed=seed, group=group)


@lru_cache(maxsize=8)
def _section(mix: Mixed, epoch: int, section: int) -> tuple[int, Numbers, Numbers]:
    """Where it begins among the groups of the epoch; of each group its dataset, and its number among the dataset's."""
    before = mix.before(epoch, section)
    counts = mix.before(epoch, section + 1) - before
    datasets = np.repeat(np.arange(len(counts)), counts)
    datasets = datasets[permutation(len(datasets), mix.seed, "mix", epoch, section)]
    numbers = np.empty_like(datasets)
    first_of = np.repeat(np.cumsum(counts) - counts, counts)
    numbers[np.argsort(datasets, kind="stable")] = np.arange(len(datasets)) - first_of
    return int(before.sum()), datasets, numbers + before[datasets]


@dataclass(frozen=True, kw_only=True)
class FeedOrder:
    """All samples of a feed in their order, the same for any number of ranks and workers, and for any batch size."""

    orders: tuple[Order, ...]
    """Of each dataset, all by one shuffle."""
    mix: Mix
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Samples of each bucket that have no place in an epoch."""

    @property
    def samples(self) -> int:
        """Of an epoch."""
        return self.mix.samples

    @property
    def group(self) -> int:
        """So many that follow each other are of one dataset."""
        return self.mix.group

    @cached_property
    def fingerprint(self) -> tuple[int | str, ...]:
        """All that the order depends on, in whole numbers and texts: the same of an equal one in every process."""
        return (len(self.orders), *(part for order in self.orders for part in order.fingerprint), *self.mix.fingerprint)

    def places(self, epoch: int, positions: Numbers) -> Places:
        """Where the samples at these positions of an epoch lie."""
        sources, within = self.mix.pick(epoch, positions)
        if len(self.orders) == 1:
            return self.orders[0].places(within)
        totals = self._sizes[sources]
        passes, within = np.divmod(within, totals)
        ranks, rows = shuffled(self.orders[0].shuffle, within, totals, sources=sources, passes=passes)
        shards = np.empty_like(sources)
        for mine in groups(sources):
            shards[mine], rows[mine] = self.orders[int(sources[mine[0]])].located(rows[mine])
        ranks = shards if ranks is None else ranks
        return Places(sources=sources, passes=passes, ranks=ranks, shards=shards, rows=rows)

    @cached_property
    def _sizes(self) -> Numbers:
        return np.array([len(order) for order in self.orders])
