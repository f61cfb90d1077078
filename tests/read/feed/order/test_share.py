"""Shares: all ranks of any number read what one rank would, in the same steps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarloom.errors import UsageError
from tarloom.read.feed.order.mixing import FeedOrder, One, by_size
from tarloom.read.feed.order.places import Order, Shuffle
from tarloom.read.feed.order.share import Share

WORLDS = st.sampled_from([1, 2, 3, 5, 8, 17, 40])
SHUFFLE = Shuffle(seed=1, window=64, block=8)


def order_of(samples: int) -> FeedOrder:
    return FeedOrder(
        orders=(Order(np.array([samples // 2, samples - samples // 2]), SHUFFLE),), mix=One(samples=samples)
    )


def bucketed(sizes: list[int], group: int) -> FeedOrder:
    mix = by_size(sizes, seed=1, group=group)
    return FeedOrder(orders=tuple(Order(np.array([size]), SHUFFLE) for size in sizes), mix=mix)


def rows_of(places) -> list[tuple[int, ...]]:
    return list(zip(*(vars(places)[name].tolist() for name in ("sources", "passes", "shards", "rows")), strict=True))


@given(samples=st.integers(1, 400), batch_size=st.integers(1, 20), world_size=WORLDS, begin=st.integers(0, 400))
def test_ranks_divide_each_step_without_rest_and_in_equal_parts(samples, batch_size, world_size, begin):
    begin, order = begin % samples, order_of(samples)
    shares = [Share(batch_size=batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    step = np.arange(begin, min(begin + shares[0].step_samples, samples))
    parts = [share.places(order, 1, begin) for share in shares]
    assert sorted(row for part in parts for row in rows_of(part)) == sorted(rows_of(order.places(1, step)))
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= (1 if len(step) < shares[0].step_samples else 0)


@settings(max_examples=25)
@given(
    samples=st.integers(20, 90),
    world_size=st.sampled_from([1, 2, 4, 8]),
    batch=st.integers(2, 4),
    group=st.integers(1, 3),
)
def test_in_buckets_every_batch_is_of_one_bucket_and_ranks_divide_all(samples, world_size, batch, group):
    order = bucketed([samples, 40, 13], batch * group)
    shares = [Share(batch_size=batch, rank=rank, world_size=world_size) for rank in range(world_size)]
    found = []
    for begin in range(0, order.samples, shares[0].step_samples):
        parts = [share.places(order, 0, begin) for share in shares]
        assert all(len(set(part.sources.tolist())) <= 1 for part in parts)
        found += [row for part in parts for row in rows_of(part)]
    assert found == rows_of(order.places(0, np.arange(order.samples)))


def test_a_rank_reads_fewer_blocks_than_its_samples_would_lie_in_by_chance():
    order = order_of(1000)
    alone = order.places(0, np.arange(64))
    mine = Share(batch_size=16, rank=1, world_size=4).places(order, 0, 0)
    assert len(set(alone.ranks.tolist())) == 8
    assert len(set(mine.ranks.tolist())) <= 3
    assert mine.ranks.tolist() != sorted(mine.ranks.tolist())


def test_a_rank_asks_for_its_team_alone_however_many_there_are(monkeypatch):
    asked = []
    places = FeedOrder.places

    def counted(self, epoch, positions):
        asked.append(len(positions))
        return places(self, epoch, positions)

    monkeypatch.setattr(FeedOrder, "places", counted)
    share = Share(batch_size=256, rank=2999, world_size=3000)
    assert len(share.places(order_of(10_000_000), 0, 0)) == 256
    assert asked == [8 * 256]


def test_more_ranks_than_samples_leave_some_with_none():
    order = order_of(3)
    sizes = [len(Share(batch_size=4, rank=rank, world_size=50).places(order, 0, 0)) for rank in range(50)]
    assert sum(sizes) == 3
    assert set(sizes) == {0, 1}


def test_a_state_between_two_buckets_is_refused():
    order = bucketed([100, 100], 8)
    Share(batch_size=8).check(order, 16)
    Share(batch_size=4).check(order, 12)
    Share(batch_size=24).check(order, 16)  # three groups a batch
    with pytest.raises(UsageError, match="divides both 8 and 12"):
        Share(batch_size=8).check(order, 12)
