"""How much of a prompt the model reads: counted and cut right, from several threads too."""

import copy
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarloom.process.paint.reach import Reach, reach_of
from tests.generate.making import PAINTER


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(PAINTER, subfolder="tokenizer")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["red", "Star", "été", "星", "-", "purple-ish"]), max_size=12).map(" ".join))
def test_a_text_is_cut_after_the_last_whole_word_that_is_read(tokenizer, text):
    reach = Reach(tokenizer=tokenizer, tokens=16)
    cut = reach.cut(text)
    assert text == cut or text.startswith(f"{cut} ")
    assert reach.count(cut) <= 16
    more = text[: text.find(" ", len(cut) + 1)] if text.count(" ") > cut.count(" ") + 1 else text
    assert cut == text or reach.count(more) > 16


@settings(max_examples=40, deadline=None)
@given(st.text())
def test_any_text_is_cut_to_its_beginning(tokenizer, text):
    assert text.startswith(Reach(tokenizer=tokenizer, tokens=8).cut(text))


def test_threads_that_count_and_cut_do_not_disturb_each_other(tokenizer):
    reach = Reach(tokenizer=tokenizer, tokens=8)
    texts = [" ".join(["a red star"] * number) for number in range(1, 9)] * 20
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda text: (reach.count(text), reach.cut(text)), texts))
    assert found == [(reach.count(text), reach.cut(text)) for text in texts]
    assert found[0] == (5, "a red star")


def encoder(kind: str, places: int | None = None) -> SimpleNamespace:
    return SimpleNamespace(config=SimpleNamespace(model_type=kind, max_position_embeddings=places))


@pytest.mark.parametrize(
    ("parts", "most", "expected"),
    [
        ({}, None, None),
        ({"tokenizer": 77, "text_encoder": encoder("clip_text_model", 24)}, None, 24),
        ({"tokenizer": 77, "text_encoder": encoder("clip_text_model", 77)}, 512, 77),
        (
            {"tokenizer": 77, "text_encoder": encoder("clip"), "tokenizer_2": 512, "text_encoder_2": encoder("t5")},
            256,
            256,
        ),
        ({"tokenizer": 10**30, "text_encoder": encoder("qwen2")}, None, None),
    ],
    ids=["no text", "places", "CLIP alone", "the one that reads further", "without a limit"],
)
def test_the_encoder_that_reads_furthest_sets_the_limit(tokenizer, parts, most, expected):
    named = {}
    for name, part in parts.items():
        named[name] = part
        if name.startswith("tokenizer"):
            named[name] = copy.deepcopy(tokenizer)
            named[name].model_max_length = part
    reach = reach_of(named, most)
    assert (None if reach is None else reach.tokens) == expected
