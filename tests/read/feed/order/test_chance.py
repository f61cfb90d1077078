"""Chance that is a function of what it is for: spread as chance is, in any order of asking, in any process."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.read.feed.order.chance import below, permutation, permuted, uniform, words


def test_words_never_change():
    """States that were saved go on with later versions: these are the numbers that they rely on."""
    assert int(words(1, "a", 2)) == 6545984631035309005
    assert words(1, "a", np.arange(3)).tolist() == [9533758098458819338, 15219218765860815675, 6545984631035309005]
    assert permuted(np.arange(5), 5, 7).tolist() == [1, 3, 2, 0, 4]
    assert permuted(np.arange(3), 10**12, 7).tolist() == [94590762792, 398262369261, 300067894347]


def test_arrays_are_asked_at_once_for_what_their_numbers_name_one_by_one():
    numbers = np.array([0, 5, -1, 1 << 62])
    found = words(3, numbers, "x", numbers[:, None], 4)
    assert found.tolist() == [[int(words(3, int(i), "x", int(j), 4)) for i in numbers] for j in numbers]


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1) | st.text(max_size=3), min_size=1, max_size=4))
def test_every_part_of_a_name_matters(parts):
    others = [[*parts, 0], [*parts, ""], ["", *parts], parts[:-1], [*parts[:-1], str(parts[-1]) + "!"]]
    assert int(words(*parts)) not in [int(words(*other)) for other in others]


def test_uniform_numbers_are_uniform():
    found = uniform(1, "test", np.arange(100_000))
    assert found.min() >= 0
    assert found.max() < 1
    assert np.abs(np.histogram(found, 20, (0, 1))[0] - 5000).max() < 350
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.02


@given(limit=st.integers(1, 1 << 40), seed=st.integers())
def test_numbers_below_a_limit_are_below_it(limit, seed):
    found = below(limit, seed, np.arange(20))
    assert ((found >= 0) & (found < limit)).all()


@given(count=st.integers(1, 2000), seed=st.integers())
def test_a_permutation_has_each_number_once_and_so_has_one_that_is_asked_in_parts(count, seed):
    numbers = np.arange(count)
    assert sorted(permutation(count, seed).tolist()) == numbers.tolist()
    whole = permuted(numbers, count, seed)
    assert sorted(whole.tolist()) == numbers.tolist()
    assert permuted(numbers[::-3], count, seed).tolist() == whole[::-3].tolist()


@given(counts=st.lists(st.integers(1, 1 << 50), min_size=1, max_size=20), data=st.data())
def test_several_permutations_are_asked_at_once(counts, data):
    numbers = [data.draw(st.integers(0, count - 1)) for count in counts]
    keys = np.arange(len(counts))
    found = permuted(np.array(numbers), np.array(counts), 1, keys)
    alone = [
        int(permuted(np.array([number]), count, 1, key)[0])
        for number, count, key in zip(numbers, counts, keys.tolist(), strict=True)
    ]
    assert found.tolist() == alone
    assert (found < np.array(counts)).all()


@pytest.mark.parametrize("count", [3, 4, 5])
def test_each_order_of_a_few_numbers_comes_equally_often(count):
    times = 40_000
    keys = np.repeat(np.arange(times), count)
    found = permuted(np.tile(np.arange(count), times), count, 1, keys).reshape(times, count)
    orders, expected = Counter(map(tuple, found.tolist())), times / math.factorial(count)
    assert len(orders) == math.factorial(count)
    spread = sum((seen - expected) ** 2 / expected for seen in orders.values()) / (len(orders) - 1)
    assert spread < 2


@pytest.mark.parametrize("count", [10, 255, 256, 1000, 8192])
def test_what_follows_in_a_permutation_does_not_depend_on_what_came(count):
    times = 200_000 // count
    keys = np.repeat(np.arange(times), count)
    found = permuted(np.tile(np.arange(count), times), count, 1, keys).reshape(times, count)
    steps = np.bincount((found[:, 1:] - found[:, :-1] + count).ravel(), minlength=2 * count)
    expected = np.maximum(count - np.abs(np.arange(2 * count) - count), 0.0)
    expected[count] = 0
    expected *= steps.sum() / expected.sum()
    some = expected > 5
    assert ((steps - expected)[some] ** 2 / expected[some]).sum() / some.sum() < 1.5
