"""The torch feed: shares that are disjoint and complete, batches of the size asked for."""

import pytest
from torch.utils.data import DataLoader

import tarloom
from tarloom.errors import UsageError

from tests.read.sample_sets import packed_samples

KEYS = [key for key, _ in packed_samples(2)]


def keys_of(batches) -> list[str]:
    return [key for batch in batches for key in batch["__key__"]]


def lengths(batch) -> list[int]:
    return [len(text) for text in batch["txt"]]


def test_batches_have_the_size_asked_for_and_come_in_order(packed):
    batches = list(tarloom.open(packed).select("txt", "caption.text").to_torch(10, shuffle=False))
    assert [len(batch["__key__"]) for batch in batches] == [10] * 7 + [6]
    assert keys_of(batches) == KEYS
    assert batches[0]["txt"] == [b"a caption"] * 10
    assert batches[0]["caption.text"] == ["hello"] * 10


@pytest.mark.parametrize("world_size", [1, 2, 3, 50])
def test_ranks_share_all_samples_without_overlap(packed, world_size):
    dataset = tarloom.open(packed)
    found = [keys_of(dataset.to_torch(7, rank=rank, world_size=world_size, seed=3)) for rank in range(world_size)]
    assert sorted(key for keys in found for key in keys) == KEYS


def test_workers_of_a_loader_share_all_samples_and_transform_in_their_process(packed):
    feed = tarloom.open(packed).select("txt").to_torch(10, transform=lengths)
    loader = DataLoader(feed, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert sum(sum(batch) for batch in loader) == len(KEYS) * len("a caption")


def test_a_seed_orders_each_epoch_in_its_own_repeatable_way(packed):
    feed = tarloom.open(packed).to_torch(10, seed=1)
    first = keys_of(feed)
    feed.set_epoch(0)
    again = keys_of(feed)
    feed.set_epoch(1)
    second = keys_of(feed)
    assert first == again != second
    assert sorted(first) == sorted(second) == KEYS != first


@pytest.mark.parametrize("options", [{"rank": 0}, {"world_size": 2}, {"rank": 2, "world_size": 2}])
def test_impossible_places_are_refused(packed, options):
    with pytest.raises(UsageError, match="rank"):
        tarloom.open(packed).to_torch(10, **options)
    with pytest.raises(UsageError, match="batch_size"):
        tarloom.open(packed).to_torch(0)
