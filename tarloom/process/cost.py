"""What a run took and what it costs: images a second for each stage, where the time went, tokens, GPUs, money.

Rates leave out what is done once, such as loading a model: they say what another million images take.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tarloom.errors import UsageError
from tarloom.process.task import ShardReport, ShardTask, StageReport

MILLION = 1_000_000
HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class PriceConfig:
    """What a run costs."""

    price_per_hour: float | None = None
    """Of all machines of the run together, in any currency: the summary then says what the run cost, and a million
    images."""

    def __post_init__(self) -> None:
        """Raises UsageError for a price that is none."""
        if self.price_per_hour is not None and not 0 <= self.price_per_hour < math.inf:
            raise UsageError(f"price_per_hour must be at least 0 and finite, not {self.price_per_hour}")


@dataclass(frozen=True, kw_only=True)
class CostConfig(PriceConfig):
    """What a run says about its cost."""

    estimate: int | None = None
    """Run the stages over so many images, spread over the shards, keep nothing, and predict what the rest takes."""

    def __post_init__(self) -> None:
        """Raises UsageError for a sample of nothing."""
        super().__post_init__()
        if self.estimate is not None and self.estimate < 1:
            raise UsageError(f"estimate must be at least 1, not {self.estimate}")


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """Of one stage."""

    images: int
    images_per_second: float | None
    """Of its own work in all workers together, as if it had no other stage or reading to wait for."""
    totals: Mapping[str, int] = field(default_factory=dict)
    """Of what it counts, such as tokens."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of the rows that a run asked about, without those that earlier runs had answered."""

    images: int
    seconds: float
    """From the beginning of shards to their commits, as if all workers had been busy all the time."""
    images_per_second: float | None
    """Of all workers together; None where nothing was done."""
    seconds_in: Mapping[str, float]
    """Of worker threads by kind of work: read, decode, wait (for batches), write, and each stage by its name."""
    stages: Mapping[str, StageCost]
    gpu_seconds: float | None
    """None where no GPU is known to be used."""
    gpu_seconds_per_million: float | None
    price: float | None
    price_per_million: float | None


def cost_of(
    reports: Iterable[ShardReport],
    *,
    workers: int,
    gpus: float = 0,
    price_per_hour: float | None = None,
    paid_seconds: float | None = None,
) -> Cost:
    """Sum up. workers: that worked side by side. gpus: of all of them together. paid_seconds: of the whole run, where
    more of it is paid for than the work on shards."""
    done = [report for report in reports if not report.skipped and report.seconds]
    images = sum(max((stage.rows for stage in _asked(report).values()), default=0) for report in done)
    seconds = sum(report.seconds for report in done) / workers
    seconds_in = _summed(report.seconds_in for report in done)
    paid = seconds if paid_seconds is None else paid_seconds
    price = None if price_per_hour is None else paid / HOUR * price_per_hour
    return Cost(
        images=images,
        seconds=round(seconds, 3),
        images_per_second=round(images / seconds, 1) if seconds else None,
        seconds_in={name: round(value, 3) for name, value in seconds_in.items()},
        stages={name: _stage_cost(name, done, seconds_in, workers) for name in _names(done)},
        gpu_seconds=round(seconds * gpus, 3) if gpus else None,
        gpu_seconds_per_million=round(seconds * gpus / images * MILLION, 1) if gpus and images else None,
        price=None if price is None else round(price, 6),
        price_per_million=round(price / images * MILLION, 2) if price is not None and images else None,
    )


def sample(tasks: Iterable[ShardTask], images: int) -> list[ShardTask]:
    """Tasks of about so many images, spread evenly over the shards, that keep nothing of what is answered."""
    todo = [task for task in tasks if task.piece.rows]
    total = sum(task.piece.rows for task in todo)
    left = min(images, total)
    each = min(max((task.batch_rows for task in todo), default=1), max(1, total // max(1, len(todo))))
    shards = min(len(todo), -(-left // each))
    chosen = sorted((todo[number * len(todo) // shards] for number in range(shards)), key=lambda task: task.piece.rows)
    cut = []
    for number, task in enumerate(chosen):  # the smallest first: what it lacks, larger ones give
        rows = min(task.piece.rows, -(-left // (shards - number)))
        left -= rows
        cut.append(replace(task, piece=replace(task.piece, last=rows), keep=False))
    return cut


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a sample says about the rest."""

    sampled: int
    """Images that the stages were run over."""
    remaining: int
    """Images that are still to be asked about."""
    images_per_second: float | None
    seconds: float
    """That the rest will take, without loading models."""
    failed: int
    """Rows of the rest that will fail, each time a stage fails on one."""
    totals: Mapping[str, int]
    """Of what stages count, such as tokens, for the rest."""
    gpu_seconds: float | None
    price: float | None
    seconds_in: Mapping[str, float]
    """Of the sample: where its time went."""


def predict(cost: Cost, reports: Iterable[ShardReport], *, remaining: int) -> Estimate:
    """What the rest takes, if it is like the sample. cost, reports: of the sample; remaining: images of the rest."""
    share = remaining / cost.images if cost.images else 0.0
    failures = sum(sum(report.errors.values()) for report in reports)
    return Estimate(
        sampled=cost.images,
        remaining=remaining,
        images_per_second=cost.images_per_second,
        seconds=round(cost.seconds * share, 1),
        failed=round(failures * share),
        totals={
            f"{name}.{what}": round(count * share)
            for name, stage in cost.stages.items()
            for what, count in stage.totals.items()
        },
        gpu_seconds=None if cost.gpu_seconds is None else round(cost.gpu_seconds * share, 1),
        price=None if cost.price is None else round(cost.price * share, 2),
        seconds_in=cost.seconds_in,
    )


def _stage_cost(name: str, done: list[ShardReport], seconds_in: Mapping[str, float], workers: int) -> StageCost:
    reports = [_asked(report)[name] for report in done if name in _asked(report)]
    images, seconds = sum(report.rows for report in reports), seconds_in.get(name, 0.0) / workers
    return StageCost(
        images=images,
        images_per_second=round(images / seconds, 1) if seconds else None,
        totals={what: round(value) for what, value in _summed(report.totals for report in reports).items()},
    )


def _asked(report: ShardReport) -> Mapping[str, StageReport]:
    return report.asked or report.stages


def _names(done: Iterable[ShardReport]) -> list[str]:
    return list(dict.fromkeys(name for report in done for name in report.stages))


def _summed(mappings: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: defaultdict[str, float] = defaultdict(float)
    for mapping in mappings:
        for name, value in mapping.items():
            total[name] += value
    return dict(total)
