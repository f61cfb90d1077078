"""Mixtures: samples of several datasets by weights, the same for every rank, and from any place on."""

import pytest

import tarloom
from tarloom.errors import UsageError


@pytest.fixture
def halves(packed):
    dataset = tarloom.open(packed).select("txt", "caption.text")
    return dataset.where("__key__ < '000000040'"), dataset.where("__key__ >= '000000040'")


def keys_of(feed) -> list[str]:
    return [key for batch in feed for key in batch["__key__"]]


def test_an_epoch_has_of_each_dataset_what_its_weight_says(halves):
    feed = tarloom.mix((halves[0], 3), (halves[1], 1), samples=100).to_numpy(10, seed=1)
    for _ in range(3):
        keys = keys_of(feed)
        assert (len(feed), len(keys), sum(key < "000000040" for key in keys)) == (10, 100, 75)


def test_datasets_go_through_all_of_their_samples_before_any_comes_again(halves):
    feed = tarloom.mix((halves[0], 1), (halves[1], 1), samples=38).to_numpy(10, seed=1)
    both = [key for _ in range(2) for key in keys_of(feed)]
    assert len(both) == len(set(both)) == 76


def test_ranks_divide_a_mixture_and_a_state_goes_on_with_others(halves):
    mixture = tarloom.mix((halves[0], 0.7), (halves[1], 0.3))
    whole, part = mixture.to_numpy(12, seed=4), mixture.to_numpy(12, seed=4)
    everything = keys_of(whole)
    begun = iter(part)
    seen = [key for _, batch in zip(range(2), begun, strict=False) for key in batch["__key__"]]
    ranks = [mixture.to_numpy(4, seed=4, rank=rank, world_size=3) for rank in range(3)]
    for feed in ranks:
        feed.load_state_dict(part.state_dict())
    rest = [key for feed in ranks for key in keys_of(feed)]
    assert sorted(seen + rest) == sorted(everything)
    assert seen == everything[:24]


def test_a_dataset_that_is_mixed_with_itself_comes_in_two_orders(halves):
    keys = keys_of(tarloom.mix((halves[0], 1), (halves[0], 1)).to_numpy(76, seed=1))
    assert sorted(keys) == sorted(2 * list(set(keys)))


def test_torch_has_mixtures_too(halves):
    batches = list(tarloom.mix((halves[0], 1), (halves[1], 1)).to_torch(19, seed=1))
    assert [len(batch["__key__"]) for batch in batches] == [19] * 4


def test_mixtures_that_cannot_be_are_refused(halves, packed):
    first, second = halves
    none = first.where("width < 0")
    for make, says in [
        (lambda: tarloom.mix(), "give datasets and weights"),
        (lambda: tarloom.mix(first, second), "give datasets and weights"),
        (lambda: tarloom.mix([(first, 1), (second, 1)]), "give datasets and weights"),
        (lambda: tarloom.mix(("shards", 1)), "give datasets and weights"),
        (lambda: tarloom.mix((first, "1")), "give datasets and weights"),
        (lambda: tarloom.mix((first, 0)), "greater than 0"),
        (lambda: tarloom.mix((first, 1), samples=0), "1 or more"),
        (lambda: tarloom.mix((first, 1), samples=1e2), "samples must be a whole number, not 100.0"),
        (lambda: tarloom.mix((first, 1), (none, 1)).to_numpy(4), "no samples to feed"),
        (lambda: tarloom.mix((first, 1), (second, 1e-9)).to_numpy(4), "gives it none of 76"),
        (lambda: tarloom.mix((first, 1), (second, 1)).to_numpy(4, buckets="width"), "of one dataset"),
        (lambda: tarloom.mix((first, 1), (tarloom.open(packed), 1)).to_numpy(4), "differ in caption.text, jpg, json"),
    ]:
        with pytest.raises(UsageError, match=says):
            make()


@pytest.mark.parametrize(("ours", "theirs"), [("json", "text"), ("json", None), ("text", None)])
def test_datasets_that_are_decoded_differently_are_mixed_where_the_feed_says_how(halves, ours, theirs):
    parts = [
        (half.select("json", "txt") if form is None else half.select("json", "txt").decoding(json=form), 1)
        for half, form in zip(halves, (ours, theirs), strict=True)
    ]
    with pytest.raises(UsageError, match=r"decode json to different forms; say decode=\{...\} for both"):
        tarloom.mix(*parts).to_numpy(4)
    with pytest.raises(UsageError, match="decode json to different forms"):
        tarloom.mix(*parts).to_numpy(4, decode={"txt": "text"})
    batch = next(iter(tarloom.mix(*parts).to_numpy(4, decode={"json": "text"})))
    assert [type(text) for text in batch["json"]] == [str] * 4


def test_columns_are_selected_of_each_dataset(halves, packed):
    feed = tarloom.mix((halves[0], 1), (tarloom.open(packed), 1)).to_numpy(4, columns=("json", "width"))
    assert set(next(iter(feed))) == {"__key__", "json", "width"}
