"""Mixing: every dataset has its share of every epoch, goes through its own samples in its own order, from any place."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.read.feed.order import mixing
from tarloom.read.feed.order.mixing import FeedOrder, Mixed, One, by_size, by_weights
from tarloom.read.feed.order.places import Order, Shuffle

SIZES = st.lists(st.integers(1, 300), min_size=1, max_size=6)
GROUPS = st.integers(1, 9)
EPOCHS = st.integers(0, 3)


def picked(mix: Mixed, epoch: int):
    return mix.pick(epoch, np.arange(mix.samples))


@given(sizes=SIZES, group=GROUPS, epoch=EPOCHS)
def test_buckets_of_a_pass_come_in_whole_groups_and_leave_less_than_a_group(sizes, group, epoch):
    mix = by_size(sizes, seed=1, group=group)
    datasets, within = picked(mix, epoch)
    assert (datasets.reshape(-1, group) == datasets.reshape(-1, group)[:, :1]).all()
    for number, size in enumerate(sizes):
        mine = within[datasets == number]
        assert mine.tolist() == list(range(epoch * size, epoch * size + size // group * group))
    assert mix.left_out.tolist() == [size % group for size in sizes]


@given(weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=6), samples=st.integers(1, 1000), group=GROUPS)
def test_weights_are_kept_within_a_group_and_datasets_go_on_from_epoch_to_epoch(weights, samples, group):
    mix = by_weights(weights, samples=samples, seed=1, group=group)
    assert mix.samples == samples // group * group
    for count, weight in zip(mix.groups, weights, strict=True):
        assert abs(count - samples // group * weight / sum(weights)) < 1 + 1e-6
    epochs = [picked(mix, epoch) for epoch in range(3)]
    for number, count in enumerate(mix.groups):
        mine = np.concatenate([within[datasets == number] for datasets, within in epochs])
        assert mine.tolist() == list(range(3 * count * group))


@given(sizes=SIZES, group=GROUPS, epoch=EPOCHS, data=st.data())
def test_any_positions_are_picked_without_those_before_them(sizes, group, epoch, data):
    mix = by_size([size + group for size in sizes], seed=2, group=group)
    positions = np.array(data.draw(st.lists(st.integers(0, mix.samples - 1), max_size=20)), np.int64)
    whole, found = picked(mix, epoch), mix.pick(epoch, positions)
    assert [part.tolist() for part in found] == [part[positions].tolist() for part in whole]


def test_a_long_epoch_is_mixed_alike_from_beginning_to_end_whatever_section_is_asked(monkeypatch):
    monkeypatch.setattr(mixing, "SECTION", 100)
    monkeypatch.setattr(mixing, "SECTION_OF_EACH", 2)
    mix = by_weights([5, 3, 1.9, 0.1], samples=20_000, seed=3)
    datasets, within = picked(mix, 1)
    assert [
        np.sort(within[datasets == number]).tolist() == list(range(count, 2 * count))
        for number, count in enumerate(mix.groups)
    ]
    shares = np.array([np.bincount(part, minlength=4) for part in np.split(datasets, 100)])
    assert np.abs(shares - [100, 60, 38, 2]).max() < 30
    for first in (0, 12_345, 19_990):
        assert mix.pick(1, np.arange(first, first + 10))[0].tolist() == datasets[first : first + 10].tolist()


def test_what_comes_when_is_by_chance_in_each_epoch():
    mix = by_weights([1, 1], samples=100, seed=1)
    first, second = picked(mix, 0)[0], picked(mix, 1)[0]
    assert first.tolist() != second.tolist()
    assert 20 < int((np.diff(first) != 0).sum()) < 80


def test_some_datasets_of_several_may_be_taken_alone():
    mix = by_size([100, 3, 60], seed=1, group=10)
    assert mix.of([0, 2]) == by_size([100, 60], seed=1, group=10)


@given(sizes=SIZES, seed=st.integers(0, 9), data=st.data())
def test_an_order_of_several_datasets_is_the_same_from_any_place(sizes, seed, data):
    shuffle = Shuffle(seed=seed, window=40, block=7)
    orders = tuple(Order(np.array([size, 5]), shuffle) for size in sizes)
    order = FeedOrder(orders=orders, mix=by_weights([1.0] * len(sizes), samples=200, seed=seed))
    positions = np.array(data.draw(st.lists(st.integers(0, 199), max_size=20)), np.int64)
    whole, found = order.places(2, np.arange(200)), order.places(2, positions)
    for name, values in vars(whole.take(positions)).items():
        assert vars(found)[name].tolist() == values.tolist(), name


def test_datasets_of_one_size_have_orders_of_their_own():
    order = order_of(by_weights([1, 1], samples=2000, seed=1), rows=([50] * 20, [50] * 20))
    places = order.places(0, np.arange(2000))
    first, second = (order.orders[0].row_numbers(places.take(places.sources == number)) for number in (0, 1))
    assert sorted(first) == sorted(second) == list(range(1000))
    assert first.tolist() != second.tolist()


SHUFFLE = Shuffle(seed=1, window=40, block=7)
MIXES = {"one": One(samples=20, group=2), "mixed": Mixed(groups=(2, 1), strides=(5, 3), seed=1, group=2)}


def order_of(mix, *, shuffle: Shuffle | None = SHUFFLE, rows=((3, 2), (1, 4))) -> FeedOrder:
    return FeedOrder(orders=tuple(Order(np.array(counts), shuffle) for counts in rows), mix=mix)


def others_of(things):
    """The same with another value in one of its fields, whichever fields there are."""
    for field in fields(things):
        value = getattr(things, field.name)
        yield replace(things, **{field.name: (value[0] + 1, *value[1:]) if isinstance(value, tuple) else value + 1})


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_orders_that_differ_in_anything_have_other_fingerprints(mix):
    rows = (((2, 3), (1, 4)), ((3, 2), (1, 4, 0)), ((3, 2), (1, 4), (1,)), ((1, 4), (3, 2)), ((3, 2),))
    orders = [order_of(mix), *(order_of(other) for other in others_of(mix))]
    orders += [order_of(mix, shuffle=other) for other in (*others_of(SHUFFLE), None)]
    orders += [order_of(mix, rows=other) for other in rows]
    assert len({order.fingerprint for order in orders}) == len(orders)


def test_a_fingerprint_is_of_whole_numbers_and_texts_and_the_same_of_an_equal_order():
    found = {name: json.loads(json.dumps(order_of(mix).fingerprint)) for name, mix in MIXES.items()}
    assert found == {name: list(order_of(replace(mix)).fingerprint) for name, mix in MIXES.items()}
    rows = ["a9928084ac1eb583", "e716a168cd65de14"]
    assert [[part[:16] if isinstance(part, str) else part for part in parts] for parts in found.values()] == [
        [2, rows[0], 1, 40, 7, rows[1], 1, 40, 7, "one", 20, 2],
        [2, rows[0], 1, 40, 7, rows[1], 1, 40, 7, "mixed", 1, 2, 2, 1, 5, 3],
    ]


def test_epochs_of_a_dataset_alone_are_its_passes():
    order = Order(np.array([10]), None)
    places = FeedOrder(orders=(order,), mix=One(samples=10)).places(4, np.arange(10))
    assert places.passes.tolist() == [4] * 10
