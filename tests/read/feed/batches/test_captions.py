"""Captions: one text of several for each sample, by chance that belongs to the sample."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tarloom
from tarloom.errors import UsageError
from tarloom.read.feed.batches.captions import Captions, choice

BOTH = Captions(of={"txt": 1, "caption.text": 3})


@given(
    weights=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=5),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5),
    data=st.data(),
)
def test_a_choice_is_of_those_that_are_present_and_of_none_only_where_there_is_none(weights, draws, data):
    rows = st.lists(st.booleans(), min_size=len(weights), max_size=len(weights))
    present = np.array([data.draw(rows) for _ in draws])
    for number, there in zip(choice(np.array(weights), present, np.array(draws)), present, strict=True):
        assert there[number] if there.any() else number == -1


def test_choices_come_as_often_as_their_weights_say():
    draws = (np.arange(1000) + 0.5) / 1000
    present = np.ones((1000, 3), bool)
    present[:, 1] = False
    counts = np.bincount(choice(np.array([3.0, 5.0, 1.0]), present, draws))
    assert counts.tolist() == [750, 0, 250]


def test_captions_are_chosen_of_members_and_columns_which_are_left_out_of_batches_themselves(packed):
    feed = tarloom.open(packed).select("json").to_numpy(10, captions=BOTH)
    batches = list(feed)
    assert all(set(batch) == {"__key__", "json", "text"} for batch in batches)
    counts = Counter(text for batch in batches for text in batch["text"])
    assert set(counts) == {"a caption", "hello"}
    assert counts["hello"] > counts["a caption"]


def test_captions_may_be_called_like_one_of_the_texts_they_are_chosen_of(packed):
    dataset = tarloom.open(packed).select("json")
    plain = [batch["text"] for batch in dataset.to_numpy(10, captions=BOTH)]
    for name in BOTH.of:
        batches = list(dataset.to_numpy(10, captions=replace(BOTH, name=name)))
        assert all(set(batch) == {"__key__", "json", name} for batch in batches)
        assert [batch[name] for batch in batches] == plain


def test_captions_are_chosen_whatever_becomes_of_samples_that_cannot_be_read(packed):
    dataset = tarloom.open(packed).select("json")
    plain = [batch["text"] for batch in dataset.to_numpy(10, captions=BOTH)]
    for policy in ("skip", "row"):
        assert [batch["text"] for batch in dataset.on_error(policy).to_numpy(10, captions=BOTH)] == plain


def test_a_sample_has_the_same_caption_whoever_reads_it_and_another_chance_in_each_epoch(packed):
    dataset = tarloom.open(packed).select("txt", "caption.text")
    whole = dataset.to_numpy(10, seed=5, captions=BOTH)

    def texts(feeds) -> dict[str, str]:
        return {key: text for feed in feeds for b in feed for key, text in zip(b["__key__"], b["text"], strict=True)}

    first, second = texts([whole]), texts([whole])
    ranks = [dataset.to_numpy(3, seed=5, rank=rank, world_size=3, captions=BOTH) for rank in range(3)]
    assert first == texts(ranks) != second


@pytest.mark.parametrize(
    ("captions", "says"),
    [
        (Captions(of={}), "name columns"),
        (Captions(of={"txt": 0}), "greater than 0"),
        (Captions(of={"key": 1, "nothing": 1}), "has no 'nothing'"),
        (Captions(of={"txt": 1}, name="json"), "another name"),
    ],
)
def test_captions_that_cannot_be_are_refused(packed, captions, says):
    with pytest.raises(UsageError, match=says):
        tarloom.open(packed).select("json").to_numpy(10, captions=captions)


@pytest.mark.parametrize("of", ["caption", ["caption"], {"caption": "1"}, None])
def test_captions_without_how_probable_each_is_are_refused_by_how_that_is_said(of):
    with pytest.raises(UsageError, match=r'captions: say how probable each is, such as of=\{"caption": 1\}; not of='):
        Captions(of=of)
