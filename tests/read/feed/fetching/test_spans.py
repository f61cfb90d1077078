"""Spans are all steps in their order, end where windows do, and are read one ahead; who waits long is told for what."""

import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.read.feed.fetching import spans as module
from tarloom.read.feed.fetching.spans import read_ahead, spans

WAIT = 30


@given(
    begin=st.integers(0, 5000),
    steps=st.integers(0, 300),
    size=st.integers(1, 700),
    most=st.integers(1, 100),
    window=st.none() | st.integers(1, 3000),
)
def test_spans_are_all_steps_in_order_within_bounds_and_windows(begin, steps, size, most, window):
    wanted = range(begin, begin + steps * size, size)
    found = list(spans(wanted, most=lambda: most, window=window))
    assert [step for span in found for step in span] == list(wanted)
    assert all(1 <= len(span) <= most for span in found)
    assert not found or len(found[0]) == 1
    if window is not None:
        assert all(span[0] // window == span[-1] // window for span in found)


def sizes(steps: int, *, most: int) -> list[int]:
    """Of spans of steps of 256 samples, 32 of which are a window."""
    return [len(span) for span in spans(range(0, steps * 256, 256), most=lambda: most, window=8192)]


def test_whole_windows_are_read_at_a_time_when_memory_allows():
    assert sizes(128, most=40) == [1, 8, 23, 32, 32, 32]
    assert sizes(96, most=20) == [1, 8, 12, 11, 16, 16, 16, 16]


def test_a_span_is_made_when_those_before_it_have_been_read():
    most = 1

    def read(span: range) -> int:
        nonlocal most
        most = 3
        return len(span)

    divided = spans(range(20), most=lambda: most, window=None)
    assert list(read_ahead(read, divided, close=lambda: None, missing=nothing)) == [1, 3, 3, 3, 3, 3, 2, 2]


def nothing() -> str:
    return "nothing"


def test_one_span_is_read_while_the_last_one_is_used_and_no_more():
    begun = [threading.Event() for _ in range(4)]

    def read(number: int) -> int:
        begun[number].set()
        return number

    found = read_ahead(read, range(4), close=lambda: None, missing=nothing)
    assert next(found) == 0
    assert begun[1].wait(WAIT)
    assert not begun[2].is_set()
    assert list(found) == [1, 2, 3]


def test_errors_come_in_their_turn_and_whoever_stops_closes():
    closed = []

    def read(number: int) -> int:
        if number == 2:
            raise ZeroDivisionError
        return number

    found = read_ahead(read, range(4), close=lambda: closed.append(True), missing=nothing)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert closed == [True]
    some = read_ahead(read, range(2), close=lambda: closed.append(True), missing=nothing)
    next(some)
    some.close()
    assert closed == [True, True]


def test_who_waits_long_is_told_for_what(monkeypatch, caplog):
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    told = threading.Event()

    def missing() -> str:
        told.set()
        return "s3://bucket/folder/7.tar"

    with caplog.at_level(logging.WARNING):
        assert list(read_ahead(lambda _: told.wait(WAIT), range(1), close=lambda: None, missing=missing)) == [True]
    assert "still waiting for s3://bucket/folder/7.tar" in caplog.text
