"""How many samples agree with a condition: counted as one would by hand, in all and by segment."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tarloom
from tarloom.errors import UsageError
from tarloom.process.keep.agreement import AgreementConfig, Share, agreement
from tests.process.keep.datasets import KINDS, Said, some_rows, write_dataset

AGREES = "caption.text = txt"
NOTHINGS = "CASE CAST(9 * clip_score.score AS INT) WHEN 1 THEN NULL WHEN 2 THEN '' WHEN 3 THEN '(none)' ELSE 'x' END"
said = st.builds(
    Said,
    key=st.just(""),
    caption=st.sampled_from(["a circle x", "a square x", "a (none) x"]),
    text=st.sampled_from(["a circle x", "a square x", None]),
    failed=st.booleans(),
)


def counted(rows: list[Said]) -> Share:
    found = Counter(None if row.text is None else row.text == row.caption for row in rows if not row.failed)
    return Share(agree=found[True], differ=found[False], unknown=found[None])


@given(shards=st.lists(st.lists(said, max_size=9), min_size=1, max_size=3))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_sample_agrees_or_differs_or_is_unknown(tmp_path_factory, shards):
    folder = tmp_path_factory.mktemp("any")
    shards = [
        [Said(**vars(row) | {"key": f"{shard}-{place}"}) for place, row in enumerate(rows)]
        for shard, rows in enumerate(shards)
    ]
    write_dataset(folder, shards)
    every = [row for rows in shards for row in rows if not row.failed]
    found = agreement(tarloom.open(folder), AGREES, by="animal")
    assert found.total == counted(every)
    kinds = {row.caption.split()[1] for row in every}
    assert found.segments == {kind: counted([row for row in every if f" {kind} " in row.caption]) for kind in kinds}
    assert list(found.segments) == sorted(kinds)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    rows = some_rows(60)
    return write_dataset(tmp_path_factory.mktemp("made") / "in", [rows[:30], rows[30:]])


def test_without_segments_there_is_the_whole(made):
    found = agreement(tarloom.open(made), AGREES)
    assert (found.total, found.segments) == (counted(some_rows(60)), {})


@pytest.mark.parametrize(
    "by", ["clip_score.score >= 0.5", "CAST(10 * clip_score.score AS INT)", "animal -- a note", NOTHINGS]
)
def test_segments_are_columns_or_expressions_and_add_up(made, by):
    found = agreement(tarloom.open(made), AGREES, by=by)
    assert len(found.segments) > 1
    assert sum(share.samples for share in found.segments.values()) == found.total.samples
    assert sum(share.agree for share in found.segments.values()) == found.total.agree


def test_samples_without_a_value_have_a_segment_of_their_own(made):
    found = agreement(tarloom.open(made), "clip_score.score >= 0", by="caption.text")
    assert found.segments["(none)"].samples == sum(row.text is None and not row.failed for row in some_rows(60))


def test_some_samples_can_be_asked_alone(made):
    stars = tarloom.open(made).where("animal = 'star'")
    assert agreement(stars, AGREES).total == counted([row for row in some_rows(60) if "star" in row.caption])


def test_a_summary_says_what_was_asked_and_nothing_else(made):
    assert AgreementConfig().told(str(made)) == {}
    told = AgreementConfig(agree_if=AGREES, agree_by="animal").told(str(made))
    assert told["agree_if"] == AGREES
    assert told["agreement"] == counted(some_rows(60)).told()
    assert list(told["agreement_by"]) == sorted(KINDS)


@pytest.mark.parametrize(
    ("condition", "by", "told"),
    [
        ("wdith > 1", "", "agree_if: there is no column 'wdith'"),
        ("width", "", "neither true nor false"),
        (AGREES, "kind", "agree_by: there is no column 'kind'; use .*animal"),
        (AGREES, "count(*)", "count|GROUP BY"),
        (AGREES, "1) FROM samples; --", "syntax error|one SELECT"),
    ],
)
def test_what_cannot_be_asked_is_named(made, condition, by, told):
    with pytest.raises(UsageError, match=told):
        agreement(tarloom.open(made), condition, by=by)


def test_values_without_end_are_no_segments(made, monkeypatch):
    monkeypatch.setattr("tarloom.process.keep.agreement.MOST_SEGMENTS", 10)
    with pytest.raises(UsageError, match="more than 10 values"):
        agreement(tarloom.open(made), AGREES, by="__key__")


def test_segments_of_nothing_are_refused():
    with pytest.raises(UsageError, match="agree_if"):
        AgreementConfig(agree_by="animal").check()
