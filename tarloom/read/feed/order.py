"""The order of one dataset's samples: a pure function of (seed, pass, rows of each shard, window, block).

Shards are cut into blocks: rows that follow each other. Blocks are permuted, and the samples of neighbouring blocks
are shuffled in windows. So bytes are read in contiguous ranges, and what lies together is far apart in the order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from tarloom.read.feed.chance import permutation
from tarloom.read.plan.pieces import count_ranges

Numbers = npt.NDArray[np.int64]
"""One for each sample, shard or block."""

WINDOW: Final = 8192
BLOCK: Final = 128


@dataclass(frozen=True, kw_only=True)
class Shuffle:
    """How samples are shuffled."""

    seed: int = 0
    window: int = WINDOW
    """Samples that are shuffled among each other."""
    block: int = BLOCK
    """Rows of a shard that follow each other into one window, at most."""


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


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """The blocks of a dataset in the order of one pass: arrays of shape (blocks,)."""

    shards: Numbers
    firsts: Numbers
    sizes: Numbers
    ends: Numbers
    """Positions at which they end in the order before windows are shuffled."""


class Order:
    """The order of a dataset's samples in each pass; without a shuffle, as they lie.

    rows: of each shard that take part, int64 of shape (shards,). Raises ValueError for a dataset without rows.
    """

    def __init__(self, rows: Numbers, shuffle: Shuffle | None) -> None:
        if rows.sum() < 1:
            raise ValueError("an order needs samples")
        self._rows, self._shuffle = rows, shuffle
        self._pass = lru_cache(maxsize=2)(self._blocks)
        self._window = lru_cache(maxsize=4)(self._shuffled)

    def __len__(self) -> int:
        return int(self._rows.sum())

    def places(self, positions: Numbers, *, source: int = 0) -> Places:
        """Where the samples at these positions lie, in any order. Positions go on from pass to pass."""
        passes, within = np.divmod(positions, len(self))
        ranks, shards, rows = (np.empty(len(positions), np.int64) for _ in range(3))
        for number in np.unique(passes).tolist():
            mine = np.flatnonzero(passes == number)
            ranks[mine], shards[mine], rows[mine] = self._places_of(number, within[mine])
        sources = np.full(len(positions), source, np.int64)
        return Places(sources=sources, passes=passes, ranks=ranks, shards=shards, rows=rows)

    def _places_of(self, number: int, positions: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Ranks of blocks, shards, rows."""
        blocks, positions = self._pass(number), self._before_windows(number, positions)
        ranks = np.searchsorted(blocks.ends, positions, side="right")
        rows = blocks.firsts[ranks] + positions - (blocks.ends[ranks] - blocks.sizes[ranks])
        return ranks, blocks.shards[ranks], rows

    def _blocks(self, number: int) -> _Pass:
        size = self._shuffle.block if self._shuffle else 1 << 62
        parts = count_ranges(self._rows, self._rows, target_bytes=size)
        shards = np.repeat(np.arange(len(parts)), parts)
        within = np.arange(len(shards)) - np.repeat(np.cumsum(parts) - parts, parts)
        rows, of = self._rows[shards], parts[shards]
        firsts, lasts = within * rows // of, (within + 1) * rows // of
        if self._shuffle:
            order = permutation(len(shards), self._shuffle.seed, number, "blocks")
            shards, firsts, lasts = shards[order], firsts[order], lasts[order]
        return _Pass(shards=shards, firsts=firsts, sizes=lasts - firsts, ends=np.cumsum(lasts - firsts))

    def _before_windows(self, number: int, positions: Numbers) -> Numbers:
        """Positions in the order of the blocks, of samples at these positions."""
        if self._shuffle is None:
            return positions
        windows = positions // self._shuffle.window
        found = np.empty_like(positions)
        for window in np.unique(windows).tolist():
            mine = np.flatnonzero(windows == window)
            first = window * self._shuffle.window
            found[mine] = first + self._window(number, window)[positions[mine] - first]
        return found

    def _shuffled(self, number: int, window: int) -> Numbers:
        assert self._shuffle is not None
        size = min(self._shuffle.window, len(self) - window * self._shuffle.window)
        return permutation(size, self._shuffle.seed, number, "window", window)
