"""Plans: what they cut, and what they refuse."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.create.plan import PLAN_VERSION, Plan, check_same, read_plan, selected_shards, write_plan
from tarloom.errors import PlanMismatch, UsageError
from tarloom.format.storage import open_storage


def plan(rows: int = 25, per_shard: int = 10, **changes) -> Plan:
    base = Plan(
        version=PLAN_VERSION,
        source="sha256:1",
        options={"image_size": "256", "resize_mode": '"no"'},
        rows=rows,
        rows_per_shard=per_shard,
        digits=5,
        columns={"b": "string", "a": "int64"},
    )
    return dataclasses.replace(base, **changes)


@given(rows=st.integers(1, 1000), per_shard=st.integers(1, 300))
def test_shards_cover_all_rows_once(rows, per_shard):
    made = plan(rows, per_shard)
    ranges = [made.rows_of(number) for number in range(made.shards)]
    assert [row for first, last in ranges for row in range(first, last)] == list(range(rows))


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, [0, 1, 2]),
        (":", [0, 1, 2]),
        ("0:2", [0, 1]),
        ("1:", [1, 2]),
        (":1", [0]),
        ("2:9", [2]),
        ("3:9", []),
        ("2:2", []),
    ],
)
def test_a_slice_chooses_shards(chosen, expected):
    assert list(selected_shards(plan(), chosen)) == expected


@pytest.mark.parametrize("chosen", ["", "1", "a:b", "-1:2", "1:2:3", "1.5:", "2:1"])
def test_what_is_no_slice_is_refused(chosen):
    with pytest.raises(UsageError, match="write A:B"):
        selected_shards(plan(), chosen)


def test_a_plan_is_read_as_it_was_written(tmp_path):
    storage = open_storage(tmp_path)
    assert read_plan(storage) is None
    write_plan(storage, plan())
    assert read_plan(storage) == plan()
    assert list(read_plan(storage).columns) == ["b", "a"]


def test_the_plan_of_the_run_that_was_faster_holds(tmp_path):
    storage = open_storage(tmp_path)
    assert write_plan(storage, plan()) == plan()
    assert write_plan(storage, plan(rows=7)) == plan()


DAMAGED = [{"rows": "25"}, {"rows_per_shard": 0}, {"options": None}, {"columns": 7}]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', *(json.dumps(vars(plan(**d))) for d in DAMAGED)])
def test_what_is_no_plan_is_refused(tmp_path, text):
    storage = open_storage(tmp_path)
    storage.write("_tarloom/plan.json", text.encode())
    with pytest.raises(UsageError, match="not a plan"):
        read_plan(storage)


def test_every_difference_is_named():
    check_same(plan(), "sha256:1", plan().options, "here")
    with pytest.raises(PlanMismatch) as caught:
        check_same(plan(), "sha256:2", {"image_size": "128", "resize_mode": '"no"', "new": "1"}, "here")
    for part in ("contents have changed", "image_size was 256, is now 128", "new was None, is now 1"):
        assert part in str(caught.value)
    assert "resize_mode" not in str(caught.value)
