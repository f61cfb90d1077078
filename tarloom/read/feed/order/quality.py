"""How well an order mixes, as a number, and the windows that are chosen from it.

What lies together in a dataset is often alike: of one class, one web site, one hour. A batch by chance tells the most
of the whole; a batch whose samples lay together tells little more than one of them. The number is the ratio of how much
a batch tells to how much one by chance does, if samples of a neighbourhood are all alike: 1 is as good as chance, 0.5
as much as half as many samples by chance. (In the words of statistics: a ratio of effective sample sizes, which are
n / (1 + (n - 1) p), where p is the probability that two samples of a batch of n are neighbours.)

    shuffle_quality(order, 256)      # 0.67 for one far larger than its windows of 512 blocks
"""

from collections.abc import Iterable
from typing import Final

import numpy as np

from tarloom.read.feed.order.chance import Numbers
from tarloom.read.feed.order.places import Order, Shuffle

NEIGHBOURS: Final = 1000
"""Rows that follow each other and count as neighbours."""
_MEASURED: Final = 1 << 16
"""Samples, or some batches if these are more."""

BLOCK_BYTES: Final = 1 << 19
"""A range that is worth a request of its own to an object store."""
BLOCK_ROWS: Final = 256
"""At most: tiny samples would make their neighbourhood a block."""
BLOCKS: Final = 512
"""Of a window: so a batch of 256 has a quality of at least 0.66, and a window has a quarter of a GiB."""


def default_shuffle(seed: int, sample_bytes: int) -> Shuffle:
    """Blocks that are read in good ranges, and windows of so many that batches mix.

    sample_bytes: about how many the tars have for each. It decides, and neither memory nor batch size does, since the
    order must be the same for all of them.
    """
    block = min(max(BLOCK_BYTES // max(sample_bytes, 1), 1), BLOCK_ROWS)
    return Shuffle(seed=seed, window=BLOCKS * block, block=block)


def shuffle_quality(order: Order, batch: int) -> float:
    """How well batches mix, from 0 to about 1; 1 is as good as a random batch. batch: samples per batch.

    Measured on the first batches of the order.
    """
    batch = min(batch, len(order))
    batches = min(max(_MEASURED // batch, 8), len(order) // batch)
    rows = order.row_numbers(order.places(np.arange(batches * batch)))
    by_chance = min((NEIGHBOURS - 1) / max(len(order) - 1, 1), 1)
    return told(neighbour_share(rows // NEIGHBOURS, batch), batch) / told(by_chance, batch)


def neighbour_share(neighbourhoods: Numbers | Iterable[int], batch: int) -> float:
    """The probability that two samples of a batch are neighbours.

    neighbourhoods: of the samples in their order. What is left of them behind the last whole batch is not counted.
    """
    found = np.unique(np.fromiter(neighbourhoods, np.int64), return_inverse=True)[1]
    batches = len(found) // batch
    places = found[: batches * batch] + np.repeat(np.arange(batches), batch) * (found.max() + 1)
    counts = np.unique(places, return_counts=True)[1]
    return float((counts * (counts - 1)).sum() / (batches * batch * max(batch - 1, 1)))


def told(neighbour_share: float, batch: int) -> float:
    """What a sample of a batch tells, beside one that has no neighbours in it."""
    return 1 / (1 + (batch - 1) * neighbour_share)
