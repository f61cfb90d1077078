"""Which 64-bit hashes lie near each other: within a few bits.

Cut into two bands more than the bits in which they may differ, two near hashes agree in two bands at least (or into
three more, and in three): only hashes that do are compared. A million that are spread take seconds. Those that share
their bands with many others, as of pictures on plain ground, are each compared with all of these, unless they are known
to be alike.
"""

import itertools
from collections.abc import Iterator

import numpy as np

BITS = 64
MAX_DISTANCE = 9
PAIRS_AT_ONCE = 1 << 20
"""Of near hashes, held before they are linked: there may be very many, each of them several times."""


def first_alike(hashes: np.ndarray, *, distance: int) -> np.ndarray:
    """For each hash the place of the first that is alike, int64; its own where there is none before it.

    hashes: uint64. Alike are those within `distance` bits, and what is alike to the same.
    """
    values, places = np.unique(hashes, return_inverse=True)
    first = np.full(len(values), len(hashes), np.int64)
    np.minimum.at(first, places, np.arange(len(hashes)))
    group = _groups(values, distance)
    np.minimum.at(first, group, first.copy())
    found: np.ndarray = first[group][places]
    return found


def _groups(values: np.ndarray, distance: int) -> np.ndarray:
    """The smallest place in the group of each of these different hashes: what near ones link, directly or through
    others."""
    group = np.arange(len(values))
    for mask in _masks(distance):
        shared = values & mask
        order = np.argsort(shared)
        for pairs in _compared(values[order], shared[order], group[order], distance):
            group = _linked(group, order[pairs])
    return group


def _masks(distance: int) -> Iterator[np.uint64]:
    """Bits of which near hashes share at least one choice."""
    agree = 2 + distance // 5  # wider bands are shared by fewer hashes, but there are more choices of them
    edges = np.linspace(0, BITS, distance + agree + 1).astype(int)
    bands = [((1 << int(high - low)) - 1) << int(low) for low, high in itertools.pairwise(edges)]
    return (np.uint64(sum(chosen)) for chosen in itertools.combinations(bands, agree))


def _compared(values: np.ndarray, shared: np.ndarray, group: np.ndarray, distance: int) -> Iterator[np.ndarray]:
    """Pairs of places of near hashes that are not yet in one group, int64 of shape (pairs, 2), not too many at once.

    shared: what is compared is what is equal there, ascending. group: of each hash.
    """
    held, count = list[np.ndarray](), 0
    here = _undecided(shared, group)
    for step in itertools.count(1):  # neighbours, then those two apart, and so on
        here = here[here + step < len(values)]
        here = here[shared[here + step] == shared[here]]
        if not len(here):
            break
        near = here[np.bitwise_count(values[here] ^ values[here + step]) <= distance]
        near = near[group[near] != group[near + step]]
        held.append(np.stack([near, near + step], axis=1))
        count += len(near)
        if count >= PAIRS_AT_ONCE:
            yield np.concatenate(held)
            held, count = [], 0
    if held:
        yield np.concatenate(held)


def _undecided(shared: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Places of hashes among whose equals in `shared`, which is ascending, there is more than one group."""
    if not len(shared):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.concatenate([[True], shared[1:] != shared[:-1]]))
    mixed = np.minimum.reduceat(group, starts) != np.maximum.reduceat(group, starts)
    return np.flatnonzero(np.repeat(mixed, np.diff(np.append(starts, len(shared)))))


def _linked(group: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The groups, once these places are in the same ones."""
    while len(pairs):
        one, other = group[pairs[:, 0]], group[pairs[:, 1]]
        pairs = pairs[one != other]
        lower, upper = np.minimum(one, other), np.maximum(one, other)
        np.minimum.at(group, upper, lower)
        while not np.array_equal(group, group[group]):
            group = group[group]
    return group
