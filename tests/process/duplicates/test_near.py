"""Hashes that are near are found, all of them and no others."""

import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tarloom.process.duplicates import near
from tarloom.process.duplicates.near import MAX_DISTANCE, first_alike

BITS = st.sets(st.integers(0, 63), max_size=5)


def by_comparing_all(hashes, distance):
    """Of each hash the first one that can be reached from it by steps of at most `distance` bits."""
    group = list(range(len(hashes)))
    for _ in hashes:
        for one, first in enumerate(hashes):
            for other, second in enumerate(hashes):
                if (first ^ second).bit_count() <= distance:
                    group[one] = group[other] = min(group[one], group[other])
    return group


@given(
    seeds=st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=4),
    changes=st.lists(st.tuples(st.integers(0, 3), BITS), max_size=12),
    distance=st.integers(0, MAX_DISTANCE),
)
def test_those_alike_are_those_that_comparing_all_finds(seeds, changes, distance):
    hashes = [seeds[seed % len(seeds)] ^ sum(1 << bit for bit in bits) for seed, bits in changes]
    found = first_alike(np.array(hashes, np.uint64), distance=distance)
    assert found.tolist() == by_comparing_all(hashes, distance)


def test_a_long_chain_is_one_group_in_any_order():
    chain = np.array([(1 << step) - 1 for step in range(64)], np.uint64)
    order = np.random.default_rng(0).permutation(64)
    assert set(first_alike(chain[order], distance=1).tolist()) == {0}
    assert first_alike(chain, distance=0).tolist() == list(range(64))


def test_many_equal_hashes_are_compared_once():
    hashes = np.repeat(np.array([7, 1 << 60], np.uint64), 500_000)
    assert first_alike(hashes, distance=3).tolist() == [0] * 500_000 + [500_000] * 500_000


def test_hashes_around_one_are_a_group_whose_pairs_are_not_all_held(monkeypatch):
    monkeypatch.setattr(near, "PAIRS_AT_ONCE", 1000)
    changes = [0, *(1 << bit for bit in range(64)), *(1 << one | 1 << two for one in range(64) for two in range(one))]
    hashes = np.array([0xF0F0 ^ change for change in changes], np.uint64)
    tracemalloc.start()
    try:
        found = first_alike(hashes, distance=4)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert set(found.tolist()) == {0}
    assert most < 4 << 20  # all pairs, each as often as it was found, were 400 MB
