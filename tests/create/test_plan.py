"""Plans: what they cut, and what they refuse."""

import dataclasses
import json
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.create.claim_output import planned
from tarloom.create.plan import PLAN_VERSION, Plan, add_plan, find_plan, read_plans, refused, selected_shards
from tarloom.create.sources.open import open_source
from tarloom.errors import UsageError
from tarloom.format.layout import NAMES_OF_READERS
from tarloom.format.storage import open_storage
from tests.create.helpers import configuration, create, table, write_list


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


def test_plans_are_read_as_they_were_written_one_behind_the_other(tmp_path):
    storage = open_storage(tmp_path)
    assert read_plans(storage) == []
    assert add_plan(storage, [], plan())
    further = plan(7, source="sha256:2").behind([plan()])
    assert add_plan(storage, [plan()], further)
    assert read_plans(storage) == [plan(), further]
    assert list(read_plans(storage)[0].columns) == ["b", "a"]
    assert sorted(path.name for path in (tmp_path / "_tarloom").iterdir()) == ["plan-3.json", "plan.json"]


def test_a_list_is_looked_through_once_however_often_a_run_is_planned(tmp_path):
    write_list(tmp_path / "urls.txt", ["http://a/1.jpg"])
    config = configuration(tmp_path / "urls.txt", tmp_path / "out")
    source, storage = open_source(config), open_storage(config.output)
    with patch.object(source, "scan", wraps=source.scan) as scan:
        first = planned(source, storage, config)
        assert planned(source, storage, config) == first
    assert scan.call_count == 1


def test_of_two_plans_of_one_moment_one_holds(tmp_path):
    storage = open_storage(tmp_path)
    assert add_plan(storage, [], plan())
    assert not add_plan(storage, [], plan(rows=7))
    assert add_plan(storage, [plan()], plan(5).behind([plan()]))
    assert not add_plan(storage, [plan()], plan(6).behind([plan()]))
    assert [made.rows for made in read_plans(storage)] == [25, 5]


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(1, 40)), min_size=1, max_size=5))
def test_further_plans_have_shards_and_row_numbers_of_their_own(sizes):
    plans: list[Plan] = []
    for rows, per_shard in sizes:
        plans.append(plan(rows, per_shard).behind(plans))
    names = [made.name(number) for made in plans for number in range(made.shards)]
    assert names == [f"{n:05d}" for n in range(len(names))]
    keys = [made.first_key + row for made in plans for row in range(made.rows)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", sorted(NAMES_OF_READERS))
def test_a_column_that_readers_would_leave_out_is_refused_unless_the_plan_has_it(tmp_path, name):
    (tmp_path / "list.jsonl").write_text(json.dumps({"url": "", name: "x"}))
    options = {"save_additional_columns": (name,)}
    config = configuration(tmp_path / "list.jsonl", tmp_path / "out", **options)
    storage, source = open_storage(config.output), open_source(config)
    with pytest.raises(UsageError, match=f"additional column {name}: .*rename it"):
        planned(source, storage, config)
    with patch("tarloom.create.claim_output._check_names"):
        planned(source, storage, config)
    create(tmp_path / "list.jsonl", tmp_path / "out", **options)
    assert name in table(tmp_path / "out").column_names


def test_row_numbers_go_on_as_the_keys_of_img2dataset_do():
    assert plan(25, 10).behind([plan(25, 10)]).first_key == 30


WRONG = [{"rows": "25"}, {"rows_per_shard": 0}, {"options": None}, {"columns": 7}, {"first_shard": -1}]
DAMAGED = [json.dumps(vars(plan(**wrong))) for wrong in WRONG]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', "[" * 100_000, *DAMAGED])
def test_what_is_no_plan_is_refused(tmp_path, text):
    storage = open_storage(tmp_path)
    storage.write("_tarloom/plan.json", text.encode())
    with pytest.raises(UsageError, match="not a plan"):
        read_plans(storage)


def test_the_plan_of_this_source_and_these_options_is_found():
    plans = [plan(), plan(source="sha256:2").behind([plan()])]
    assert find_plan(plans, "sha256:2", plan().options) == plans[1]
    assert find_plan(plans, "sha256:3", plan().options) is None
    assert find_plan(plans, "sha256:1", {**plan().options, "image_size": "1"}) is None


def test_every_difference_to_the_nearest_plan_is_named():
    nearest = plan(options={"image_size": "256", "resize_mode": '"no"', "caption_col": "null"})
    far = plan(source="sha256:9", options={"a": "1", "b": "2", "c": "3", "d": "4", "e": "5"})
    now = {"image_size": "128", "resize_mode": '"no"', "caption_col": '"text"', "new": "1"}
    said = str(refused([far, nearest], "sha256:2", now, "here"))
    for part in (
        "contents have changed",
        "image_size was 256, is now 128",
        'caption_col was not given, is now "text"',
        "new was not known, is now 1",
        "incremental_mode",
    ):
        assert part in said
    assert "resize_mode" not in said


def test_a_plan_of_another_version_is_told_as_that_not_by_options_that_nobody_can_restore():
    then = plan(version=PLAN_VERSION - 1, options={"image_size": "256", "gone": "1"})
    said = str(refused([then], "sha256:2", {"image_size": "256", "new": "1"}, "here"))
    assert f"version {PLAN_VERSION - 1} (now {PLAN_VERSION}); go on with that version, choose another output" in said
    assert "gone" not in said
    assert "new was" not in said
