"""The order of one dataset's samples: a pure function of (seed, pass, rows of each shard, window, block).

All rows, shard behind shard, are cut into blocks: rows that follow each other. Blocks are permuted, and the samples of
neighbouring blocks are shuffled in windows. So bytes are read in contiguous ranges, and what lies together is far apart
in the order. Any place of it is computed without those before it, and nothing is kept but where each shard begins.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property

import numpy as np

from tarloom.read.feed.order.chance import Numbers, below, permuted


def groups(*numbers: Numbers) -> Iterator[Numbers]:
    """The places of those that are equal in all of these arrays, in the order of their numbers."""
    order = np.lexsort(numbers[::-1])
    if len(order):
        changes = np.any([np.diff(values[order]) != 0 for values in numbers], axis=0)
        yield from np.split(order, np.flatnonzero(changes) + 1)


@dataclass(frozen=True, kw_only=True)
class Shuffle:
    """How samples are shuffled."""

    seed: int
    window: int
    """Samples that are shuffled among each other."""
    block: int
    """Rows that follow each other into one window, at most."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where samples lie: arrays of one length."""

    sources: Numbers
    """Which dataset, of those that are mixed."""
    passes: Numbers
    """How often that dataset was gone through before."""
    ranks: Numbers
    """Of their blocks in the pass: samples that are read together have neighbouring ranks."""
    shards: Numbers
    rows: Numbers
    """By their numbers among those of the shard that take part."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, numbers: Numbers) -> "Places":
        """These alone."""
        return Places(**{name: values[numbers] for name, values in vars(self).items()})

    @staticmethod
    def joined(parts: "Sequence[Places]") -> "Places":
        """All of them, in their order; at least one part."""
        return Places(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})


class Order:
    """The order of a dataset's samples in each pass; without a shuffle, as they lie.

    rows: of each shard that take part, int64 of shape (shards,). Raises ValueError for a dataset without rows.
    """

    def __init__(self, rows: Numbers, shuffle: Shuffle | None) -> None:
        if rows.sum() < 1:
            raise ValueError("an order needs samples")
        self.shuffle = shuffle
        self._ends = np.cumsum(rows)
        self._starts = self._ends - rows

    def __len__(self) -> int:
        return int(self._ends[-1])

    @cached_property
    def fingerprint(self) -> tuple[int | str, ...]:
        """All that it depends on, in whole numbers and texts: no name of a class, and nothing that a library writes."""
        rows = hashlib.sha256(self._ends.astype("<i8").tobytes()).hexdigest()
        return (rows,) if self.shuffle is None else (rows, *astuple(self.shuffle))

    def places(self, positions: Numbers) -> Places:
        """Where the samples at these positions lie, in any order. Positions go on from pass to pass."""
        sources = np.zeros(len(positions), np.int64)
        passes, within = np.divmod(positions, len(self))
        ranks, numbers = shuffled(self.shuffle, within, len(self), sources=sources, passes=passes)
        shards, rows = self.located(numbers)
        ranks = shards if ranks is None else ranks
        return Places(sources=sources, passes=passes, ranks=ranks, shards=shards, rows=rows)

    def located(self, numbers: Numbers) -> tuple[Numbers, Numbers]:
        """Shards, and rows in them, of rows by their numbers among all that take part."""
        shards = np.searchsorted(self._ends, numbers, side="right")
        return shards, numbers - self._starts[shards]

    def row_numbers(self, places: Places) -> Numbers:
        """The numbers of these samples' rows among all that take part."""
        numbers: Numbers = self._starts[places.shards] + places.rows
        return numbers


def shuffled(
    shuffle: Shuffle | None, positions: Numbers, totals: Numbers | int, *, sources: Numbers, passes: Numbers
) -> tuple[Numbers | None, Numbers]:
    """Ranks of blocks, and numbers of rows, of samples at these positions in passes of datasets of so many samples.

    Without a shuffle there are no blocks.
    """
    if shuffle is None:
        return None, positions
    seed, size, block = shuffle.seed, shuffle.window, shuffle.block
    windows, places = np.divmod(positions, size)
    sizes = np.minimum(size, totals - windows * size)
    positions = windows * size + permuted(places, sizes, seed, "window", sources, passes, windows)
    # All blocks are full but one. It comes at a place by chance, and permuting the others stays a matter of counts.
    full, rest = np.divmod(totals, block)
    odd = below(full + 1, seed, "odd block", sources, passes)
    behind = positions >= odd * block + rest
    ranks, offsets = np.divmod(positions + (block - rest) * behind, block)
    others = np.minimum(ranks - behind, np.maximum(full - 1, 0))
    blocks = np.where(ranks == odd, full, permuted(others, np.maximum(full, 1), seed, "blocks", sources, passes))
    # Where blocks begin is by chance too, so that each pass has other neighbours.
    return ranks, (blocks * block + offsets + below(totals, seed, "begin", sources, passes)) % totals
