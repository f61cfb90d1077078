"""Of how many samples a condition is true: how many pictures show what was asked for, in all and by segment.

agreement(tarloom.open("pictures"), "caption.text = txt", by="shape")
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tarloom.errors import UsageError
from tarloom.read.dataset import Dataset, open_dataset

NOTHING = "(none)"
"""The segment of samples that have no value for it."""
MOST_SEGMENTS = 1000
"""More than these are no segments, but values."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """How many samples agree, of how many."""

    agree: int
    differ: int
    unknown: int = 0
    """Samples of which the condition says neither: a column that it names has no value there."""

    @property
    def samples(self) -> int:
        """All of them."""
        return self.agree + self.differ + self.unknown

    @property
    def share(self) -> float:
        """Of all samples, from 0 to 1."""
        return round(self.agree / self.samples, 4) if self.samples else 0.0

    def told(self) -> dict[str, float]:
        """For a summary."""
        unknown = {"unknown": self.unknown} if self.unknown else {}
        return {"agree": self.agree, "samples": self.samples, **unknown, "share": self.share}


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How many samples agree with a condition."""

    condition: str
    """As it was asked."""
    total: Share
    by: str
    segments: Mapping[str, Share]
    """By the segments' values as text, in their order; none without `by`."""

    def told(self) -> dict[str, object]:
        """For a summary."""
        segments = {name: share.told() for name, share in self.segments.items()}
        by = {"agreement_by": segments} if segments else {}
        return {"agree_if": self.condition, "agreement": self.total.told(), **by}


@dataclass(frozen=True, kw_only=True)
class AgreementConfig:
    """What is counted when a run is over."""

    agree_if: str = ""
    """A condition in SQL on columns of metadata and sidecars, such as "caption.text = txt": the summary says of how
    many samples it is true."""
    agree_by: str = ""
    """A column, or an expression in SQL, by whose values this is told, too: such as shape, or width >= 256."""

    def check(self) -> None:
        """Raises UsageError for segments of nothing, and for what is no SQL: what columns there are is seen later."""
        if self.agree_by and not self.agree_if:
            raise UsageError("agree_by: says by what agreement is told; say what agreement is, by agree_if")
        for name in ("agree_if", "agree_by"):
            if getattr(self, name):
                from tarloom.read.columns.sql import parse  # loads duckdb

                parse(f"SELECT (\n{getattr(self, name)}\n)", what=name)

    def told(self, path: str) -> dict[str, object]:
        """For the summary of a run over this dataset; nothing where nothing was asked. Raises as `agreement` does."""
        if not self.agree_if:
            return {}
        return agreement(open_dataset(path), self.agree_if, by=self.agree_by).told()


def agreement(dataset: Dataset, condition: str, *, by: str = "") -> Agreement:
    """Count the samples that agree, from parquet alone.

    condition: SQL as in `where`; by: a column or an expression whose values are the segments. Raises UsageError for SQL
    that cannot work, ShardError where sidecars do not fit.
    """
    proven = dataset.where(condition, option="agree_if").condition
    assert proven is not None
    segment = f"coalesce(nullif(CAST({_value(dataset, by)} AS VARCHAR), ''), '{NOTHING}')" if by else "NULL"
    answer = f"SELECT {segment} AS segment, ({proven.sql}) AS agrees FROM samples"
    counted = "count(*) FILTER (agrees) AS agree, count(*) FILTER (NOT agrees) AS differ, count(*) AS samples"
    rows = _answered(dataset, f"SELECT segment, {counted} FROM ({answer}) GROUP BY segment ORDER BY segment", by)
    segments = {row["segment"]: _share(row) for row in rows} if by else {}
    total = _share({name: sum(row[name] for row in rows) for name in ("agree", "differ", "samples")})
    return Agreement(condition=condition, total=total, by=by, segments=segments)


def _value(dataset: Dataset, by: str) -> str:
    """What tells the segments apart, with the full names of columns."""
    from tarloom.read.columns.sql import names_of  # loads duckdb
    from tarloom.read.columns.where import resolved

    names = names_of(dataset.catalog, f"{dataset.path}: agree_by")
    return resolved(by, names, kind="value", example="width >= 256")[0]


def _answered(dataset: Dataset, sql: str, by: str) -> list[dict[str, Any]]:
    from tarloom.read.columns.query import Query  # loads duckdb

    rows: list[dict[str, Any]] = []
    for batch in Query(dataset, sql).batches():
        rows += batch.to_pylist()
        if len(rows) > MOST_SEGMENTS:
            raise UsageError(f"{dataset.path}: agree_by {by}: has more than {MOST_SEGMENTS} values; name segments")
    return rows


def _share(row: Mapping[str, int]) -> Share:
    return Share(agree=row["agree"], differ=row["differ"], unknown=row["samples"] - row["agree"] - row["differ"])
