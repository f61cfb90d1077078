"""Fits: which part of a picture they take, for pictures of any size and whatever chance says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.errors import UsageError
from tarloom.read.feed.batches.pictures import DRAWS, CenterCrop, Fit, RandomCrop, RandomResizedCrop, Resize

SIDES = st.integers(1, 3000)
SIZES = st.tuples(SIDES, SIDES)
CHANCE = st.floats(0, 1, exclude_max=True)
DRAWN = st.lists(CHANCE, min_size=DRAWS, max_size=DRAWS)
FITS = st.sampled_from(
    [
        RandomCrop(224),
        RandomCrop((64, 96), flip=1),
        CenterCrop(224),
        CenterCrop((3, 1000)),
        Resize((7, 5)),
        RandomResizedCrop(224),
        RandomResizedCrop((40, 20), scale=(0.001, 0.001), ratio=(0.01, 100)),
    ]
)


@given(FITS, SIZES, DRAWN)
def test_every_part_lies_inside_the_picture(fit, size, draws):
    part = fit.part(size, draws)
    assert isinstance(fit, Fit)
    assert part.height >= 1
    assert part.width >= 1
    assert 0 <= part.top <= size[0] - part.height
    assert 0 <= part.left <= size[1] - part.width


@given(st.integers(224, 3000), st.integers(224, 3000), DRAWN)
def test_a_random_crop_is_at_the_pictures_own_scale(height, width, draws):
    assert RandomCrop(224).part((height, width), draws)[2:4] == (224, 224)


@given(SIZES, DRAWN)
def test_what_is_too_small_for_a_crop_is_enlarged_no_more_than_needed(size, draws):
    part = RandomCrop(3000).part(size, draws)
    assert (part.height, part.width) == (min(size), min(size))


def test_a_random_crop_may_lie_at_every_edge():
    first, last = RandomCrop(2).part((4, 5), [0.0] * DRAWS), RandomCrop(2).part((4, 5), [0.999] * DRAWS)
    assert (first.top, first.left, first.mirrored) == (0, 0, True)
    assert (last.top, last.left, last.mirrored) == (2, 3, False)


def test_the_middle_has_the_proportions_asked_for():
    assert CenterCrop(224).part((300, 500), []) == (0, 100, 300, 300, False)
    assert CenterCrop((100, 200)).part((300, 500), []) == (25, 0, 250, 500, False)


@given(st.integers(200, 3000), st.integers(200, 3000), DRAWN)
def test_shares_and_proportions_are_those_asked_for(height, width, draws):
    part = RandomResizedCrop(224, scale=(0.3, 0.5)).part((height, width), draws)
    assert 0.29 <= part.height * part.width / (height * width) <= 0.51
    tallest, widest = 3 / 4, 4 / 3
    if tallest <= width / height <= widest:  # else a part of such a share may not fit at these proportions
        assert tallest - 0.02 <= part.width / part.height <= widest + 0.02


def test_a_size_may_be_of_numpys_numbers():
    assert RandomCrop(np.int64(96)).shape == (96, 96)
    assert [type(side) for side in Resize((np.int32(3), 4)).shape] == [int, int]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (RandomCrop, {"size": 0}),
        (CenterCrop, {"size": (3, 0)}),
        (Resize, {"size": (3, 4, 5)}),
        (Resize, {"size": "96"}),
        (RandomCrop, {"size": 96.0}),
        (RandomCrop, {"size": None}),
        (RandomCrop, {"size": 3, "flip": 1.5}),
        (RandomResizedCrop, {"size": 3, "scale": (0, 1)}),
        (RandomResizedCrop, {"size": 3, "scale": (0.5, 0.1)}),
        (RandomResizedCrop, {"size": 3, "ratio": (2, 1)}),
        (RandomResizedCrop, {"size": 3, "flip": -1}),
    ],
)
def test_impossible_fits_are_refused(kind, options):
    with pytest.raises(UsageError, match=kind.__name__):
        kind(**options)
