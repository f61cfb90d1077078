"""Near ranges are read together, far ones apart, and none is forgotten."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tarloom.format.ranges import COALESCE_BYTES, SPAN_BYTES, coalesce

RANGES = st.lists(st.tuples(st.integers(0, 200 << 20), st.integers(0, 20 << 20)), max_size=60)


@given(RANGES)
def test_every_range_that_is_not_empty_lies_in_one_request(ranges):
    offsets, sizes = [offset for offset, _ in ranges], [size for _, size in ranges]
    spans = coalesce(offsets, sizes)
    assert sorted(i for span in spans for i in span.ranges) == [i for i, size in enumerate(sizes) if size]
    for span in spans:
        assert all(span.start <= offsets[i] and offsets[i] + sizes[i] <= span.end for i in span.ranges)
        assert span.start == min(offsets[i] for i in span.ranges)
        assert span.end == max(offsets[i] + sizes[i] for i in span.ranges)


@given(RANGES)
def test_requests_are_apart_unless_the_first_of_them_is_big(ranges):
    spans = coalesce([offset for offset, _ in ranges], [size for _, size in ranges])
    for one, other in pairwise(spans):
        assert other.start > one.end + COALESCE_BYTES or one.end - one.start >= SPAN_BYTES


def test_gaps_up_to_the_limit_are_read_along():
    near = coalesce([0, 10 + COALESCE_BYTES], [10, 10])
    far = coalesce([0, 11 + COALESCE_BYTES], [10, 10])
    assert [(span.start, span.end) for span in near] == [(0, 20 + COALESCE_BYTES)]
    assert [span.ranges for span in far] == [[0], [1]]
