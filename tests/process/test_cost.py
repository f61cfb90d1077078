"""What runs say about their cost: sums, rates, prices, and predictions from a sample."""

import pytest

from tarloom.errors import UsageError
from tarloom.format.sidecar import SidecarInfo
from tarloom.format.storage import open_storage
from tarloom.format.storage.base import Entry
from tarloom.process.cost import CostConfig, cost_of, predict, sample
from tarloom.process.task import ShardTask, StageReport, StageTask, shard_report
from tarloom.read.plan.pieces import Piece
from tarloom.read.view import View


def report(shard: str, rows: int, seconds: float, tokens: int = 0, **spent: float):
    stages = {name: StageReport(rows=rows, successes=rows, totals={"tokens": tokens}) for name in ("caption", "clip")}
    return shard_report(shard, stages, seconds=seconds, seconds_in=spent)


def task(shard: str, rows: int, tmp_path, batch_rows: int = 10) -> ShardTask:
    piece = Piece(
        storage=open_storage(tmp_path),
        shard=shard,
        tar=Entry(name=f"{shard}.tar", size=0),
        identity="",
        first=0,
        last=rows,
        view=View(members=()),
    )
    info = SidecarInfo(stage="caption", fingerprint={}, identity="", rows=rows)
    return ShardTask(piece=piece, stages=(StageTask(info=info),), batch_rows=batch_rows)


def test_images_are_counted_once_however_many_stages_see_them():
    cost = cost_of([report("a", 100, 2.0), report("b", 50, 1.0)], workers=1)
    assert (cost.images, cost.seconds, cost.images_per_second) == (150, 3.0, 50.0)


def test_workers_that_work_side_by_side_share_the_time():
    assert cost_of([report("a", 100, 2.0), report("b", 100, 2.0)], workers=2).images_per_second == 100.0


def test_each_stage_has_its_own_rate_and_totals():
    cost = cost_of([report("a", 100, 2.0, 7, caption=1.0, clip=0.5), report("b", 100, 2.0, 8, caption=1.0)], workers=1)
    assert {name: (s.images, s.images_per_second, s.totals) for name, s in cost.stages.items()} == {
        "caption": (200, 100.0, {"tokens": 15}),
        "clip": (200, 400.0, {"tokens": 15}),
    }
    assert cost.seconds_in == {"caption": 2.0, "clip": 0.5}


def test_a_price_is_that_of_the_time_and_of_a_million_images():
    cost = cost_of([report("a", 1000, 3600.0)], workers=2, gpus=2, price_per_hour=8.0)
    assert (cost.price, cost.price_per_million) == (4.0, 4000.0)
    assert cost.gpu_seconds_per_million == 3_600_000.0


def test_nothing_done_costs_nothing_and_has_no_rate():
    cost = cost_of([], workers=4, gpus=1, price_per_hour=1.0)
    assert (cost.images, cost.images_per_second, cost.price, cost.price_per_million) == (0, None, 0.0, None)


@pytest.mark.parametrize("images", [1, 9, 10, 25, 1000, 10**9])
def test_a_sample_is_spread_over_the_shards_and_keeps_nothing(images, tmp_path):
    tasks = [task(f"{number:05d}", rows, tmp_path) for number, rows in enumerate([100, 0, 100, 100, 7])]
    chosen = sample(tasks, images)
    assert sum(t.piece.rows for t in chosen) == min(images, 307)
    assert len({t.piece.shard for t in chosen}) == len(chosen)
    assert all(t.piece.rows and not t.keep for t in chosen)
    if images >= 40:
        assert len(chosen) == 4


def test_a_sample_predicts_the_rest():
    reports = [report("a", 100, 2.0, 500, caption=1.5)]
    estimate = predict(cost_of(reports, workers=1, gpus=1, price_per_hour=3.6), reports, remaining=1_000_000)
    assert (estimate.sampled, estimate.remaining, estimate.images_per_second) == (100, 1_000_000, 50.0)
    assert (estimate.seconds, estimate.gpu_seconds, estimate.price, estimate.failed) == (20000.0, 20000.0, 20.0, 0)
    assert estimate.totals["caption.tokens"] == 5_000_000


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ({"estimate": 0}, "estimate must be at least 1, not 0"),
        ({"price_per_hour": -2.5}, "price_per_hour must be at least 0 and finite, not -2.5"),
        ({"price_per_hour": float("nan")}, "finite, not nan"),
    ],
)
def test_samples_of_nothing_and_prices_that_are_none_are_refused(option, complaint):
    with pytest.raises(UsageError, match=complaint):
        CostConfig(**option)
