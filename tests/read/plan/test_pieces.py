"""Planning pieces: pure functions of counts and sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarloom.format.storage import Entry, LocalStorage
from tarloom.read.plan.pieces import Piece, count_ranges, pack, part_of, share
from tarloom.read.view import View


def piece(number: int, size: int) -> Piece:
    entry = Entry(name=f"{number}.tar", size=size)
    return Piece(
        storage=LocalStorage("/nowhere"),
        shard=str(number),
        tar=entry,
        identity="",
        first=0,
        last=1,
        view=View(members=("jpg",)),
        bytes=size,
    )


def ranges_of(rows: int, total: int, target: int) -> list[tuple[int, int]]:
    """As a plan cuts a shard of so many rows and bytes."""
    parts = count_ranges(np.int64(rows), np.int64(total), target_bytes=target)
    return [part_of(rows, part, int(parts)) for part in range(parts)]


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(0, 10_000), st.integers(1, 2_000))
def test_ranges_cover_every_row_once_in_order(rows, total, target):
    assert [row for first, last in ranges_of(rows, total, target) for row in range(first, last)] == list(range(rows))


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(0, 10_000), st.integers(1, 2_000))
def test_ranges_are_equal_within_one_row_and_no_larger_than_asked_for(rows, total, target):
    sizes = [last - first for first, last in ranges_of(rows, total, target)]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) == 1 or (min(sizes) * total / rows) <= target


@settings(deadline=None)
@given(st.lists(st.integers(0, 100), max_size=30), st.integers(1, 200))
def test_packing_keeps_all_pieces_in_order_in_tasks_that_are_even_within_one(sizes, target):
    pieces, total = [piece(number, size) for number, size in enumerate(sizes)], sum(sizes)
    tasks = pack(pieces, total_bytes=total, target_bytes=target)
    assert [p for task in tasks for p in task] == pieces
    even = total / max(1, -(-total // target))
    assert all(abs(sum(p.bytes for p in task) - even) <= max(sizes) for task in tasks)


@settings(deadline=None)
@given(st.lists(st.integers()), st.integers(1, 9))
def test_shares_are_disjoint_together_complete_and_even(things, parts):
    shares = [share(things, part=part, parts=parts) for part in range(parts)]
    assert sorted(thing for part in shares for thing in part) == sorted(things)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_impossible_shares_and_sizes_are_refused():
    with pytest.raises(ValueError, match="part must be at least 0 and less than 2"):
        share([1], part=2, parts=2)
    with pytest.raises(ValueError, match="target_bytes must be at least 1"):
        count_ranges(np.int64(1), np.int64(1), target_bytes=0)
