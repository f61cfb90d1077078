"""Which 64-bit hashes lie near each other: within a few bits.

Cut into two bands more than the bits in which they may differ, two near hashes agree in two bands at least (or into
three more, and in three): only hashes that do are compared. A million take seconds.
"""

import itertools
from collections.abc import Iterator

import numpy as np

BITS = 64
MAX_DISTANCE = 9


def first_alike(hashes: np.ndarray, *, distance: int) -> np.ndarray:
    """For each hash the place of the first that is alike, int64; its own where there is none before it.

    hashes: uint64. Alike are those within `distance` bits, and what is alike to the same.
    """
    values, places = np.unique(hashes, return_inverse=True)
    first = np.full(len(values), len(hashes), np.int64)
    np.minimum.at(first, places, np.arange(len(hashes)))
    group = _groups(len(values), np.concatenate([np.zeros((0, 2), np.int64), *_near(values, distance)]))
    np.minimum.at(first, group, first.copy())
    found: np.ndarray = first[group][places]
    return found


def _near(values: np.ndarray, distance: int) -> Iterator[np.ndarray]:
    """Pairs of places of different hashes that are near, int64 of shape (pairs, 2); some of them more than once."""
    agree = 2 + distance // 5  # wider bands are shared by fewer hashes, but there are more choices of them
    edges = np.linspace(0, BITS, distance + agree + 1).astype(int)
    bands = [((1 << int(high - low)) - 1) << int(low) for low, high in itertools.pairwise(edges)]
    for chosen in itertools.combinations(bands, agree):
        shared = values & np.uint64(sum(chosen))
        order = np.argsort(shared)
        shared, here = shared[order], np.arange(len(values))
        for step in itertools.count(1):  # neighbours, then those two apart, and so on
            here = here[here + step < len(values)]
            here = here[shared[here + step] == shared[here]]
            if not len(here):
                break
            one, other = order[here], order[here + step]
            near = np.bitwise_count(values[one] ^ values[other]) <= distance
            yield np.stack([one[near], other[near]], axis=1)


def _groups(count: int, pairs: np.ndarray) -> np.ndarray:
    """The smallest place in each place's group: places that pairs link, directly or through others."""
    group = np.arange(count)
    while len(pairs):
        one, other = group[pairs[:, 0]], group[pairs[:, 1]]
        pairs = pairs[one != other]
        lower, upper = np.minimum(one, other), np.maximum(one, other)
        np.minimum.at(group, upper, lower)
        while not np.array_equal(group, group[group]):
            group = group[group]
    return group
