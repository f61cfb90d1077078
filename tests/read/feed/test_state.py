"""States: small, the same in every process, and of use only to the feed that goes on with the same samples."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

import tarloom
from tarloom.errors import UsageError
from tests.format.raw import packed_dataset

OPTIONS = {"seed": 3, "window": 32, "block": 4}


def state_of(folder, batch_size=5, *, where=None, **options):
    dataset = tarloom.open(folder)
    feed = (dataset if where is None else dataset.where(where)).to_numpy(batch_size, **OPTIONS | options)
    next(iter(feed))
    return feed.state_dict()


def test_a_state_is_small_and_json(packed):
    state = state_of(packed)
    assert json.loads(json.dumps(state)) == state
    assert len(json.dumps(state)) < 300
    assert (state["epoch"], state["samples"]) == (0, 5)


def test_a_state_is_the_same_json_of_a_feed_that_was_made_with_numpys_numbers(packed):
    def state(number) -> str:
        options = {"seed": number(3), "window": number(32), "block": number(4), "bucket_size": number(4)}
        feed = tarloom.open(packed).to_numpy(number(8), world_size=number(2), buckets={"all": "width > 0"}, **options)
        feed.set_epoch(number(2))
        next(iter(feed))
        return json.dumps([feed.state_dict(), feed.step_samples])

    assert state(np.int64) == state(int)


@pytest.mark.parametrize("options", [{"seed": 1.5}, {"window": 2.7}, {"bucket_size": "x"}, {"batch_size": 2.5}])
def test_what_is_no_whole_number_is_refused(packed, options):
    with pytest.raises(UsageError, match=f"{next(iter(options))} must be a whole number, not"):
        tarloom.open(packed).to_numpy(**{"batch_size": 4, "buckets": {"all": "width > 0"}} | options)


def test_an_epoch_without_a_step_is_refused(packed):
    dataset = tarloom.open(packed)
    assert len(dataset.to_numpy(76, drop_last=True)) == len(dataset.to_numpy(77)) == 1
    with pytest.raises(UsageError, match="an epoch has 76 samples, no whole step of 80, and drop_last leaves out"):
        dataset.to_numpy(40, world_size=2, drop_last=True)


def test_a_state_is_the_same_in_every_process(packed):
    code = (
        "import json, sys, tarloom\n"
        "feed = tarloom.open(sys.argv[1]).where('width > 0').to_numpy(5, **json.loads(sys.argv[2]))\n"
        "next(iter(feed)); print(json.dumps(feed.state_dict()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(packed), json.dumps(OPTIONS)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == state_of(packed, where="width > 0")


def test_a_feed_that_was_pickled_goes_on_with_the_same_state(packed):
    feed = tarloom.open(packed).to_numpy(5, **OPTIONS)
    copy = pickle.loads(pickle.dumps(feed))
    assert copy.fingerprint == feed.fingerprint
    assert [batch["__key__"] for batch in copy] == [batch["__key__"] for batch in feed]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seed": 4}, "another order: seed 3 there, 4 here"),
        ({"window": 33}, "window 32 there, 33 here"),
        ({"block": 5, "seed": 0}, "seed 3 there, 0 here; block 4 there, 5 here"),
        ({"shuffle": False}, "window 32 there, None here"),
        ({"buckets": "width", "bucket_size": 1}, "other data: .* buckets of them"),
        ({"where": "key < '000000070'"}, "other data"),
    ],
)
def test_a_state_of_another_order_or_other_data_is_refused_with_the_difference(packed, options, says):
    where = options.pop("where", None)
    dataset = tarloom.open(packed) if where is None else tarloom.open(packed).where(where)
    feed = dataset.to_numpy(5, **OPTIONS | options)
    with pytest.raises(UsageError, match=says):
        feed.load_state_dict(state_of(packed))


def test_a_state_of_buckets_in_groups_of_another_size_is_refused_with_a_hint(packed):
    buckets = {"buckets": {"all": "width > 0"}}
    feed = tarloom.open(packed).to_numpy(6, **OPTIONS | buckets)
    with pytest.raises(UsageError, match="bucket_size is batch_size if it is not given"):
        feed.load_state_dict(state_of(packed, 5, **buckets))
    feed = tarloom.open(packed).to_numpy(6, bucket_size=12, **OPTIONS | buckets)
    feed.load_state_dict(state_of(packed, 4, bucket_size=12, **buckets) | {"samples": 12})


def test_a_state_of_buckets_of_other_names_is_refused(packed):
    feed = tarloom.open(packed).to_numpy(5, buckets={"whole": "width > 0"}, **OPTIONS)
    with pytest.raises(UsageError, match=r"other data: .* buckets of them"):
        feed.load_state_dict(state_of(packed, buckets={"all": "width > 0"}))


def test_a_condition_is_told_by_the_rows_for_which_it_is_true(packed):
    state, some = state_of(packed, where="key < '000000070'"), tarloom.open(packed).where("NOT (key >= '000000070')")
    some.to_numpy(5, **OPTIONS).load_state_dict(state)
    assert some.to_numpy(5, **OPTIONS).fingerprint == state["fingerprint"]
    with pytest.raises(UsageError, match="other data"):
        tarloom.open(packed).where("key >= '000000070'").to_numpy(5, **OPTIONS).load_state_dict(state)


def test_a_state_of_an_older_version_is_refused_with_what_to_do(packed):
    older = {"data": "4f70c1d9c8a5e2b3", "seed": 3, "window": 32, "block": 4, "mix": "0d6be69b264717f2"}
    state = {"fingerprint": older, "epoch": 0, "samples": 5, "version": 1}
    with pytest.raises(UsageError, match=r"version 1, .* version 2 alone; take the tarloom that saved it, or begin"):
        tarloom.open(packed).to_numpy(5, **OPTIONS).load_state_dict(state)


def test_a_state_of_shards_that_have_changed_is_refused(packed, tmp_path):
    packed_dataset(tmp_path, shards=1, rows=10, failed=())
    state = state_of(tmp_path)
    packed_dataset(tmp_path, shards=1, rows=10, failed=(3,))
    with pytest.raises(UsageError, match="other data"):
        tarloom.open(tmp_path).to_numpy(5, **OPTIONS).load_state_dict(state)


def test_batch_size_ranks_and_what_is_read_are_no_part_of_it(packed):
    state = state_of(packed)
    feed = tarloom.open(packed).select("txt", "width").to_numpy(3, rank=1, world_size=4, **OPTIONS)
    feed.load_state_dict(state)
    assert feed.state_dict() == state


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"version": None},
        {"epoch": -1},
        {"samples": "5"},
        {"samples": -5},
        {"more": 1},
        {"fingerprint": ""},
    ],
)
def test_what_is_no_state_is_refused(packed, change):
    feed = tarloom.open(packed).to_numpy(5, **OPTIONS)
    with pytest.raises(UsageError, match="feed's state"):
        feed.load_state_dict(state_of(packed) | change)


@pytest.mark.parametrize("state", [None, [], "{}", 5])
def test_what_is_nothing_like_a_state_is_refused_also_by_torchs_feed(packed, state):
    for feed in (tarloom.open(packed).to_numpy(5, **OPTIONS), tarloom.open(packed).to_torch(5, **OPTIONS)):
        with pytest.raises(UsageError, match=r"no feed's state: .*; give what state_dict\(\) returned"):
            feed.load_state_dict(state)


def test_an_epoch_that_there_cannot_be_is_refused_as_its_state_would_be(packed):
    feed = tarloom.open(packed).to_numpy(5, **OPTIONS)
    for epoch in (-1, 10**20):
        with pytest.raises(UsageError, match=f"no 0 samples of epoch {epoch}"):
            feed.set_epoch(epoch)
    assert feed.epoch == 0


def test_an_iteration_is_refused_where_the_feed_is_moved_before_its_first_batch(packed):
    feed, state = tarloom.open(packed).to_numpy(5, **OPTIONS), state_of(packed)
    keys = [batch["__key__"] for batch in tarloom.open(packed).to_numpy(5, **OPTIONS)]
    for move in (lambda: feed.set_epoch(1), lambda: feed.load_state_dict(state)):
        begun = iter(feed)
        move()
        with pytest.raises(UsageError, match=r"epoch \d behind 0 samples, and the feed was moved .* before iter"):
            next(begun)
    assert [batch["__key__"] for batch in feed] == keys[1:]
    begun = iter(feed)
    feed.set_epoch(1)  # where it is already
    assert len(next(begun)["__key__"]) == 5
    assert (feed.epoch, feed.state_dict()["samples"]) == (1, 5)


def test_an_iteration_is_refused_where_the_feed_is_moved_or_iterated_over_anew_in_the_middle(packed):
    feed, state = tarloom.open(packed).to_numpy(5, **OPTIONS), state_of(packed)
    keys = [batch["__key__"] for batch in tarloom.open(packed).to_numpy(5, **OPTIONS)]
    for move in (lambda: feed.set_epoch(4), lambda: feed.load_state_dict(state), lambda: iter(feed)):
        begun = iter(feed)
        taken = [next(begun), next(begun)]
        move()
        stands = feed.state_dict()
        with pytest.raises(UsageError, match="the feed was moved since, or iterated over anew"):
            next(begun)
        assert feed.state_dict() == stands
    begun = iter(feed)
    taken = [next(begun), next(begun)]
    feed.load_state_dict(feed.state_dict())  # where it is already
    taken += begun
    assert [batch["__key__"] for batch in taken] == keys
    assert feed.epoch == 1
