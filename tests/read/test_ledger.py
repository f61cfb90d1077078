"""Ledgers add up, keep a bounded list, and end a run at their limits."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.errors import StaleIndex, TooManyErrors, UsageError
from tarloom.read import ledger as module
from tarloom.read.ledger import Ledger, Skipped


def bad(key: str = "k", name: str = "truncated", rows: int = 1) -> Skipped:
    return Skipped(where="s3://b/0.tar", key=key, name=name, reason="jpg: it ends early", rows=rows)


def lost(rows: int = 1, where: str = "s3://b/1.tar") -> Skipped:
    return Skipped(where=where, key=None, name="stale_index", reason="was changed", rows=rows)


def ledger_of(outcomes, **limits) -> Ledger:
    """Of rows that were read (True) or not (False)."""
    ledger = Ledger(**limits)
    ledger.count(len(outcomes), {row: bad(str(row)) for row, read in enumerate(outcomes) if not read})
    return ledger


def longest_run(outcomes) -> int:
    return max(map(len, "".join("+" if read else "-" for read in outcomes).split("+")), default=0)


@given(st.lists(st.booleans(), max_size=40), st.lists(st.integers(0, 40), max_size=5))
def test_ledgers_of_any_parts_add_up_to_that_of_the_whole(outcomes, cuts):
    bounds = [0, *sorted(min(cut, len(outcomes)) for cut in cuts), len(outcomes)]
    whole, merged = ledger_of(outcomes), Ledger()
    for first, last in itertools.pairwise(bounds):
        part = Ledger()
        part.count(last - first, {row - first: bad(str(row)) for row in range(first, last) if not outcomes[row]})
        merged.merge(Ledger.from_json(json.loads(json.dumps(part.to_json()))))
    assert merged.to_json() == whole.to_json()
    assert (merged.rows, merged.counts) == (whole.rows, whole.counts)
    assert whole.rows == outcomes.count(False)
    assert whole.to_json()["run"]["longest"] == longest_run(outcomes)


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 8))
def test_a_limit_in_a_row_is_met_exactly_where_the_longest_run_exceeds_it(outcomes, limit):
    if longest_run(outcomes) <= limit:
        ledger_of(outcomes, max_in_a_row=limit)
    else:
        with pytest.raises(TooManyErrors, match=rf"failures in a row: {limit + 1}, max_in_a_row is {limit}"):
            ledger_of(outcomes, max_in_a_row=limit)


def test_a_limit_in_all_names_the_last_entries():
    ledger = Ledger(max_skipped=2)
    ledger.count(5, {1: bad("a"), 3: bad("b")})
    with pytest.raises(
        TooManyErrors, match=r"not be read: 3, max_skipped is 2; the last: .*: a: .* \| .*: b: .* \| .*: c: t"
    ):
        ledger.skip(bad("c"))


def test_a_lost_part_of_a_shard_is_one_failure_of_many_samples():
    ledger = Ledger(max_in_a_row=1)
    ledger.count(6, {1: lost(), 2: lost(), 3: lost(), 5: bad()})
    assert [entry.rows for entry in ledger.entries] == [3, 1]
    assert (ledger.rows, ledger.counts) == (4, {"stale_index": 3, "truncated": 1})


def test_a_shard_that_could_not_be_opened_counts_as_one_but_has_no_rows():
    ledger = Ledger(max_skipped=1)
    ledger.skip(Skipped.of_file(StaleIndex("s3://b/1.tar: was changed; open it again"), rows=0))
    assert (ledger.rows, ledger.counts) == (0, {"stale_index": 1})
    assert ledger.entries == [
        Skipped(where="s3://b/1.tar", key=None, name="stale_index", reason="was changed; open it again", rows=0)
    ]
    with pytest.raises(TooManyErrors):
        ledger.skip(bad())


def test_entries_are_bounded_and_still_add_up(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 3)
    ledger = Ledger()
    ledger.count(100, {row: bad(str(row), name="truncated" if row % 2 else "not_an_image") for row in range(50)})
    assert len(ledger.entries) == 3 + 2
    assert sum(entry.rows for entry in ledger.entries) == ledger.rows == 50
    again = Ledger.from_json(ledger.to_json())
    assert again.counts == ledger.counts == {"truncated": 25, "not_an_image": 25}


@pytest.mark.parametrize("entry", [bad("a key: with colons"), lost()])
def test_an_entry_is_read_back_from_its_row(entry):
    assert Skipped.from_text(entry.text, "a key: with colons") == entry


def test_limits_below_nothing_are_refused():
    with pytest.raises(UsageError, match="max_skipped must be at least 0, not -1"):
        Ledger(max_skipped=-1)
