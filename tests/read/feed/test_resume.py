"""A feed goes on exactly where it was, however it was read before and is read from there on."""

from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tarloom.read.feed.batches.captions import Captions
from tarloom.read.feed.batches.pictures import RandomCrop
from tests.read.feed.resume_contract import Layout, Recipe, assert_goes_on, write_resumable

SHUFFLED = {"seed": 3, "window": 20, "block": 4}
CROPPED = {"columns": ("png", "json"), "decode": {"png": RandomCrop(5), "json": "json"}}
KINDS = {
    "plain": {"options": {"columns": ("json",), **SHUFFLED}},
    "as they lie": {"options": {"columns": ("json",), "shuffle": False, "memory_bytes": 1000}},
    "mapped": {"options": {**CROPPED, **SHUFFLED, "memory_map": True}},
    "one window": {"options": {"columns": ("json",)}},
    "bad samples": {"options": {**CROPPED, **SHUFFLED}},
    "filtered": {"where": "width >= 9 OR class = 'a'", "options": {**CROPPED, **SHUFFLED, "drop_last": True}},
    "mixed": {"folders": 2, "options": {**CROPPED, **SHUFFLED}},
    "captions": {
        "options": {**SHUFFLED, "columns": ("width",), "captions": Captions(of={"json": 0.3, "caption.text": 0.7})}
    },
    "buckets": {"options": {**CROPPED, **SHUFFLED, "buckets": "class", "bucket_size": 8}},
    "balanced classes": {
        "where": "class <> 'c'",
        "options": {**SHUFFLED, "columns": ("class",), "buckets": "class", "bucket_weights": "equal", "bucket_size": 8},
    },
}
QUICK = ("plain", "bad samples", "mixed")
LAYOUTS = st.builds(
    Layout,
    world_size=st.sampled_from([1, 2, 3, 4, 8]),
    batch_size=st.sampled_from([1, 2, 4, 8]),
    workers=st.sampled_from([0, 0, 1, 2, 3]),
)


@pytest.fixture(scope="module")
def recipe_of(tmp_path_factory):
    folders = [str(write_resumable(tmp_path_factory.mktemp("resumable"), first)) for first in (0, 1000)]

    @cache
    def made(kind: str) -> Recipe:
        words = KINDS[kind]
        return Recipe(**{**words, "folders": tuple(folders[: words.get("folders", 1)])})

    return made


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
@settings(max_examples=2)
@given(saved=LAYOUTS, restored=LAYOUTS, every=st.integers(3, 20))
@example(saved=Layout(world_size=2, batch_size=4, workers=2), restored=Layout(world_size=3, batch_size=2), every=5)
def test_what_remains_comes_in_a_new_process_whatever_the_layout(recipe_of, kind, saved, restored, every):
    assert assert_goes_on(recipe_of(kind), saved, restored, every=every)
