"""The order of a dataset's samples: each once a pass, the same from wherever it is asked, read in ranges."""

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.read.feed.order.places import Order, Shuffle

ROWS = st.lists(st.integers(0, 60), min_size=1, max_size=12).filter(any)
SHUFFLES = st.builds(Shuffle, seed=st.integers(0, 99), window=st.integers(1, 300), block=st.integers(1, 80))


def samples(order: Order, positions) -> list[tuple[int, int]]:
    places = order.places(np.asarray(positions))
    return list(zip(places.shards.tolist(), places.rows.tolist(), strict=True))


@given(rows=ROWS, shuffle=SHUFFLES | st.none(), number=st.integers(0, 5))
def test_every_pass_has_every_sample_once(rows, shuffle, number):
    order = Order(np.array(rows), shuffle)
    found = samples(order, np.arange(len(order)) + number * len(order))
    assert sorted(found) == [(shard, row) for shard, count in enumerate(rows) for row in range(count)]
    assert shuffle is not None or found == sorted(found)


@given(rows=ROWS, shuffle=SHUFFLES | st.none(), data=st.data())
def test_any_places_are_found_without_those_before_them(rows, shuffle, data):
    order = Order(np.array(rows), shuffle)
    whole = samples(order, np.arange(3 * len(order)))
    positions = data.draw(st.lists(st.integers(0, 3 * len(order) - 1), max_size=20))
    assert samples(pickle.loads(pickle.dumps(order)), np.array(positions, np.int64)) == [whole[p] for p in positions]


@given(rows=ROWS, shuffle=SHUFFLES, number=st.integers(0, 3))
def test_a_window_holds_rows_that_follow_each_other_in_few_blocks(rows, shuffle, number):
    order = Order(np.array(rows), shuffle)
    positions = np.arange(len(order))
    found = order.row_numbers(order.places(positions + number * len(order)))
    for first in range(0, len(order), shuffle.window):
        window = np.sort(found[first : first + shuffle.window])
        ranges = 1 + int((np.diff(window) > 1).sum())
        # A block that is cut by a window's end is in two; so are the short one, and the one that goes on at row 0.
        assert ranges <= len(window) // shuffle.block + 4


@given(rows=ROWS, shuffle=SHUFFLES)
def test_blocks_have_ranks_in_the_order_in_which_they_are_read(rows, shuffle):
    order = Order(np.array(rows), shuffle)
    places = order.places(np.arange(len(order)))
    windows = np.arange(len(order)) // shuffle.window
    for window in range(1, int(windows[-1]) + 1):
        assert places.ranks[windows == window - 1].max() <= places.ranks[windows == window].min()


def test_seeds_and_passes_have_orders_of_their_own():
    rows = np.full(20, 50)
    first = Order(rows, Shuffle(seed=1, window=100, block=10))
    positions = np.arange(1000)
    found = [
        samples(first, positions),
        samples(first, positions + 1000),
        samples(Order(rows, Shuffle(seed=2, window=100, block=10)), positions),
    ]
    assert len({tuple(order) for order in found}) == len(found)


def test_samples_meet_others_in_each_pass():
    order = Order(np.full(10, 1000), Shuffle(seed=1, window=500, block=50))

    def met(number: int) -> set[int]:
        """Samples in the window of sample 0."""
        found = order.row_numbers(order.places(np.arange(10_000) + number * 10_000))
        window = int(np.flatnonzero(found == 0)[0]) // 500
        return set(found[window * 500 :][:500].tolist())

    assert len(met(0) & met(1)) < 150


def test_an_order_never_changes():
    """States that were saved go on with later versions."""
    order = Order(np.array([7, 0, 5]), Shuffle(seed=3, window=8, block=3))
    assert order.row_numbers(order.places(np.arange(24))).tolist() == [
        9,
        3,
        5,
        8,
        6,
        2,
        10,
        7,
        4,
        11,
        0,
        1,
        9,
        11,
        7,
        8,
        10,
        1,
        3,
        2,
        0,
        6,
        4,
        5,
    ]


def test_a_thousand_million_samples_cost_what_a_thousand_do():
    tracemalloc.start()
    order = Order(np.full(100_000, 10_000), Shuffle(seed=1, window=8192, block=16))
    places = order.places(np.arange(256) + 123_456_789_012)
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()
    assert set(places.passes.tolist()) == {123}
    assert (places.rows < 10_000).all()


def test_shards_of_one_row_are_shuffled_too():
    order = Order(np.ones(1000, np.int64), Shuffle(seed=1, window=100, block=10))
    shards = order.places(np.arange(1000)).shards
    assert sorted(shards.tolist()) == list(range(1000)) != shards.tolist()


def test_an_order_of_nothing_is_refused():
    with pytest.raises(ValueError, match="samples"):
        Order(np.array([0, 0]), None)
