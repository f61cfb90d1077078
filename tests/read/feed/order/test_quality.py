"""The quality of an order is what it says: 1 for one by chance, little for none, and so much for the default."""

import numpy as np
import pytest

import tarloom
from tarloom.read.feed.order.places import Order, Shuffle
from tarloom.read.feed.order.quality import BLOCKS, default_shuffle, neighbour_share, shuffle_quality, told

ROWS = np.full(1000, 1000)


def quality(batch: int, *, window: int, block: int) -> float:
    return shuffle_quality(Order(ROWS, Shuffle(seed=1, window=window, block=block)), batch)


def test_neighbours_in_batches_are_counted():
    assert neighbour_share([0, 0, 0, 1, 1, 1], 3) == 1
    assert neighbour_share([0, 1, 2, 0, 1, 2, 7], 3) == 0
    assert neighbour_share([0, 0, 1, 2, 1, 2], 3) == pytest.approx(1 / 3)


def test_a_sample_among_its_neighbours_tells_little():
    assert told(1, 100) == pytest.approx(0.01)
    assert told(0, 100) == 1


def test_blocks_of_one_row_are_as_good_as_chance_and_none_is_as_bad_as_can_be():
    assert quality(256, window=8192, block=1) == pytest.approx(1, abs=0.03)
    assert shuffle_quality(Order(ROWS, None), 256) < 0.01


def test_more_blocks_in_a_window_mix_better_and_more_samples_in_a_batch_need_more_of_them():
    found = [quality(256, window=8192, block=block) for block in (256, 64, 16, 4)]
    assert found == sorted(found)
    assert found[0] < 0.15
    assert found[-1] > 0.85
    assert quality(1024, window=8192, block=16) < quality(256, window=8192, block=16)


@pytest.mark.parametrize("sample_bytes", [200, 30_000, 200_000, 1 << 20, 1 << 30])
def test_the_default_mixes_batches_and_fits_into_memory(sample_bytes):
    shuffle = default_shuffle(1, sample_bytes)
    assert shuffle.window == BLOCKS * shuffle.block
    assert sample_bytes > 1 << 19 or shuffle.window * sample_bytes <= 256 << 20
    assert shuffle_quality(Order(np.full(10_000, 10_000), shuffle), 256) > 0.63


def test_a_small_dataset_is_one_window():
    assert shuffle_quality(Order(np.array([500, 500]), default_shuffle(1, 30_000)), 256) == pytest.approx(1, abs=0.05)
    assert shuffle_quality(Order(np.array([1]), default_shuffle(1, 30_000)), 256) == 1


def test_a_feed_says_how_well_it_mixes(packed):
    dataset = tarloom.open(packed)
    assert dataset.to_numpy(8).shuffle_quality() == pytest.approx(1)
    assert dataset.to_numpy(8, window=8, block=8).shuffle_quality() == pytest.approx(1)  # all are neighbours anyway
