"""What is to be done for a shard, and what was: both travel between the run and its workers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tarloom.engines.base import Report
from tarloom.format.sidecar import SidecarInfo
from tarloom.read.plan.pieces import Piece

Retry = Literal["none", "transient", "all"]
Again = Retry | Literal["unsuccessful"]
"""Which rows of a sidecar are asked again. Unsuccessful: skipped ones too, since what they lacked may be there now."""


@dataclass(frozen=True, kw_only=True)
class StageTask:
    """One stage's work on a shard."""

    info: SidecarInfo
    """What the sidecar's footer will say; its `stage` is the sidecar's name."""
    retry: Again = "none"
    """Which rows of a sidecar that is there already are asked again; with "none" there is none, or it goes."""

    @property
    def name(self) -> str:
        return self.info.stage


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """A shard to be processed by one stage or more, over one decode."""

    piece: Piece
    """The whole shard, with all members and columns that its stages want to see."""
    stages: tuple[StageTask, ...]
    """In the order in which they see a batch: later ones may want to see what earlier ones said."""
    batch_rows: int
    """Rows that are read, decoded and answered at a time."""
    keep: bool = True
    """Whether what was answered is kept, and believed where it lies there; else all rows are asked for a trial."""


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """What one stage said about a shard. rows = successes + all of errors."""

    rows: int
    successes: int
    errors: Mapping[str, int] = field(default_factory=dict)
    skipped: bool = False
    """An earlier run had done it."""
    totals: Mapping[str, int] = field(default_factory=dict)
    """Sums of columns that the stage counts, such as tokens."""


@dataclass(frozen=True, kw_only=True)
class ShardReport(Report):
    """What became of a shard: rows, successes and errors are sums over its stages."""

    stages: Mapping[str, StageReport] = field(default_factory=dict)
    """By the sidecars' names."""
    seconds_in: Mapping[str, float] = field(default_factory=dict)
    """Seconds of work by kind, summed over threads: read, decode, write, and each stage by its name."""


def shard_report(shard: str, stages: Mapping[str, StageReport], **facts: object) -> ShardReport:
    """The sum of its stages."""
    errors: dict[str, int] = {}
    for report in stages.values():
        for error, count in report.errors.items():
            errors[error] = errors.get(error, 0) + count
    return ShardReport(
        shard=shard,
        rows=sum(report.rows for report in stages.values()),
        successes=sum(report.successes for report in stages.values()),
        errors=dict(sorted(errors.items())),
        skipped=all(report.skipped for report in stages.values()),
        stages=stages,
        **facts,  # type: ignore[arg-type]
    )
