"""What the words of a caption tell about it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.process.caption.flags import flags

PLAIN = (
    "A red circle above a blue square on a white background.",
    "Two dogs run along a beach; one of them carries a stick, a very, very long stick.",
    "A sign says SORRY, WE ARE CLOSED.",
    "A person who cannot see holds a white cane.",
    "一只猫坐在窗台上。",
    "42",
)
REFUSED = (
    "I'm sorry, but I can't help with that.",
    "I’m unable to identify people in images.",
    "Sorry, I cannot assist with this request.",
    "As an AI language model, I do not see pictures.",
    "Unfortunately, I am not able to view this image.",
    "I cannot describe the image.",
    "I can't see any picture here.",
    "There is no image provided.",
)
REPEATED = (
    "a cat a cat a cat a cat",
    "The sky is blue. The sky is blue. The sky is blue. The sky is blue. The",
    "no no no no",
    "A list: dog, dog, dog, dog, dog",
)


@pytest.mark.parametrize("text", PLAIN)
def test_a_plain_caption_has_no_flag(text):
    found = flags(text, "stop")
    assert (found.truncated, found.empty, found.repeated, found.refused) == (False, False, False, False)


@pytest.mark.parametrize("text", REFUSED)
def test_a_model_that_says_no_is_heard(text):
    assert flags(text, "stop").refused


@pytest.mark.parametrize("text", REPEATED)
def test_a_phrase_four_times_in_a_row_is_repeated(text):
    assert flags(text, "stop").repeated


@pytest.mark.parametrize("text", ["", "  \n", "...", "<>", "!?"])
def test_a_caption_without_a_letter_is_empty(text):
    assert flags(text, "stop").empty


def test_a_caption_is_truncated_where_its_tokens_were_spent():
    assert flags("a red", "length").truncated
    assert not flags("a red", None).truncated


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), st.integers(1, 8))
def test_whatever_phrase_is_said_often_enough_is_found(phrase, times):
    words = " ".join(f"w{word}" for word in phrase * times)
    assert flags(words, "stop").repeated or times < 4
