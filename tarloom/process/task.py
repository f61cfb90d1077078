"""What is to be done for a shard, and what was: both travel between the run and its workers."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from tarloom.engines.base import Report
from tarloom.format.sidecar import SidecarInfo
from tarloom.format.storage import Storage
from tarloom.process.loop.cutting import read_batches
from tarloom.read.plan.pieces import Piece

if TYPE_CHECKING:
    from tarloom.process.loop.answers import Answers

Retry = Literal["none", "transient", "all"]
Again = Retry | Literal["unsuccessful"]
"""Which answered rows are asked again. Unsuccessful: skipped ones too, since what they lacked may be there now."""


@dataclass(frozen=True, kw_only=True)
class StageTask:
    """One stage's work on a shard."""

    info: SidecarInfo
    """What the sidecar's footer will say; its `stage` is the sidecar's name."""
    retry: Again = "none"
    """Which rows that earlier runs have answered are asked again, in a sidecar or in parts."""
    amends: bool = False
    """There is a sidecar already, whose other rows stay; else there is none, or it goes."""

    @property
    def name(self) -> str:
        return self.info.stage


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
class RowsTask(ABC):
    """Rows of one shard that stages are asked about, wherever they lie and whatever becomes of the answers."""

    stages: tuple[StageTask, ...]
    """In the order in which they see a batch: later ones may want to see what earlier ones said."""
    batch_rows: int
    """Rows that are read, decoded and answered at a time."""
    keep: bool = True
    """Whether what was answered is kept, and believed where it lies there; else all rows are asked for a trial."""

    @property
    @abstractmethod
    def storage(self) -> Storage:
        """Where answers are kept."""

    @property
    @abstractmethod
    def shard(self) -> str: ...

    @property
    @abstractmethod
    def rows(self) -> int:
        """That are to be answered."""

    @property
    @abstractmethod
    def where(self) -> str:
        """The shard, as people find it."""

    @abstractmethod
    def read(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """The wanted rows by the batches that they are in, with their numbers; wanted as in read_batches."""

    @abstractmethod
    def commit(self, answers: "Mapping[str, Answers]") -> dict[str, StageReport]:
        """Called once every stage has answered every row: write the final output (sidecars, or a packed shard) and
        return each stage's report by name."""


@dataclass(frozen=True, kw_only=True)
class ShardTask(RowsTask):
    """A shard to be processed by one stage or more, over one decode: answers become its sidecars."""

    piece: Piece
    """The whole shard, with all members and columns that its stages want to see."""

    @property
    def storage(self) -> Storage:
        return self.piece.storage

    @property
    def shard(self) -> str:
        return self.piece.shard

    @property
    def rows(self) -> int:
        return self.piece.rows

    @property
    def where(self) -> str:
        return self.piece.url

    def read(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        return read_batches(self.piece, wanted, batch_rows=self.batch_rows)

    def commit(self, answers: "Mapping[str, Answers]") -> dict[str, StageReport]:
        return {name: answer.commit() for name, answer in answers.items()}


@dataclass(frozen=True, kw_only=True)
class ShardReport(Report):
    """What became of a shard: rows, successes and errors are sums over its stages."""

    stages: Mapping[str, StageReport] = field(default_factory=dict)
    """By the sidecars' names."""
    asked: Mapping[str, StageReport] = field(default_factory=dict)
    """The same of the rows that were asked now, which the seconds were for: earlier runs may have answered others."""
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
