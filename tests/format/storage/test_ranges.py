"""Ranges share requests in the quick way or in the frugal one; none is forgotten, none is torn."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.format.storage.ranges import MOST_EXTRA, Medium, Ranges, coalesce

MEDIUM = Medium(gap_bytes=100, request_bytes=1000, worth=2)


def ranges_of(pairs) -> Ranges:
    found = np.array(list(pairs), np.int64).reshape(-1, 2)
    return Ranges(offsets=found[:, 0], sizes=found[:, 1])


def cost(requests) -> int:
    return read_bytes(requests) + MEDIUM.gap_bytes * len(requests)


def read_bytes(requests) -> int:
    return int((requests.ends - requests.starts).sum())


RANGES = st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 1500)), max_size=60).map(ranges_of)


@given(RANGES)
def test_every_range_that_is_not_empty_lies_in_one_request_without_overlap(ranges):
    requests = coalesce(ranges, MEDIUM)
    served = [requests.ranges_of(request) for request in range(len(requests))]
    assert sorted(np.concatenate([[], *served])) == np.flatnonzero(ranges.sizes).tolist()
    for start, end, numbers in zip(requests.starts, requests.ends, served, strict=True):
        mine = ranges.take(numbers)
        assert (mine.offsets[1:] >= mine.ends[:-1]).all()
        assert (start, end) == (mine.offsets[0], mine.ends[-1])


@given(RANGES)
def test_requests_read_at_most_half_as_much_again_unless_that_is_far_slower(ranges):
    quick, chosen, frugal = (
        coalesce(ranges, replace(MEDIUM, request_bytes=1 << 40, worth=worth)) for worth in (1, 2, math.inf)
    )
    assert read_bytes(frugal) <= (1 + MOST_EXTRA) * ranges.sizes.sum()
    assert np.array_equal(chosen.starts, (quick if 2 * cost(quick) <= cost(frugal) else frugal).starts)


@given(RANGES)
def test_a_request_grows_no_further_than_to_its_limit_and_one_range(ranges):
    requests = coalesce(ranges, MEDIUM)
    longest = ranges.sizes.max(initial=0)
    assert (requests.ends - requests.starts <= MEDIUM.request_bytes + longest).all()


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        pytest.param([(start, 10) for start in range(0, 180, 30)], [(0, 160)], id="small-and-dense"),
        pytest.param([(0, 900), (900, 900), (1800, 10)], [(0, 1800), (1800, 1810)], id="dense-and-large"),
        pytest.param([(0, 10), (20, 10), (9000, 1)], [(0, 30), (9000, 9001)], id="just-enough-extra"),
        pytest.param([(0, 10), (21, 10), (9000, 1)], [(0, 10), (21, 31), (9000, 9001)], id="too-much-extra"),
        pytest.param([(0, 1000), (1101, 1000)], [(0, 1000), (1101, 2101)], id="a-gap-that-costs-more-than-a-request"),
        pytest.param([(0, 100), (50, 100)], [(0, 100), (50, 150)], id="overlapping"),
        pytest.param([(5, 0)], [], id="empty"),
    ],
)
def test_what_is_read_together(pairs, expected):
    requests = coalesce(ranges_of(pairs), MEDIUM)
    assert list(zip(requests.starts.tolist(), requests.ends.tolist(), strict=True)) == expected


@given(RANGES, st.integers(1, 2000))
def test_groups_of_requests_are_all_of_them_in_order_and_bounded(ranges, most):
    requests = coalesce(ranges, MEDIUM)
    groups = list(requests.groups(most))
    assert [number for group in groups for number in group] == list(range(len(requests)))
    sizes = requests.ends - requests.starts
    assert all(len(group) == 1 or sizes[list(group)].sum() <= most for group in groups)


@given(RANGES, st.integers(1, 500))
def test_long_ranges_are_cut_into_the_same_bytes(ranges, limit):
    def numbers(found):
        return [n for o, s in zip(found.offsets, found.sizes, strict=True) for n in range(o, o + s)]

    parts = ranges.cut(limit)
    assert numbers(parts) == numbers(ranges)
    assert (parts.sizes <= limit).all()
