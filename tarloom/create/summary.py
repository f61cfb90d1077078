"""What a run that makes shards did, whatever it makes them from."""

import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tarloom.engines.base import Report


@dataclass(frozen=True, kw_only=True)
class CreateSummary:
    """What a run did, shards that were done before it included."""

    rows: int
    successes: int
    failed_by_error: Mapping[str, int]
    """Failed rows by error name."""
    bytes: int
    """Of the members that this run wrote."""
    seconds: float
    shards: int
    """Shards that are done."""
    skipped: int
    """Shards that an earlier run had done."""
    failed_shards: Mapping[str, str]
    """Shards that could not be made, and why."""


def sum_up(reports: Collection[Report], failed: Mapping[str, str], *, since: float) -> CreateSummary:
    """failed: shards that could not be made, and why; since: when the run began, by time.monotonic()."""
    errors: Counter[str] = Counter()
    for report in reports:
        errors.update(report.errors)
    return CreateSummary(
        rows=sum(report.rows for report in reports),
        successes=sum(report.successes for report in reports),
        failed_by_error=dict(errors.most_common()),
        bytes=sum(report.bytes for report in reports),
        seconds=round(time.monotonic() - since, 3),
        shards=len(reports),
        skipped=sum(report.skipped for report in reports),
        failed_shards=dict(sorted(failed.items())),
    )
