"""What the report says in numbers: gathered shard by shard from metadata, stats and sidecars. No picture is read."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import ShardError, UsageError
from tarloom.format.index import KEY
from tarloom.format.layout import metadata_name
from tarloom.format.metadata import SUCCESS, read_stats
from tarloom.format.parquet import read_schema, read_table
from tarloom.format.sidecar import ERROR, STATUS, read_sidecar, sidecar_info
from tarloom.format.storage import Storage
from tarloom.process.texts import texts_of
from tarloom.read.dataset import Dataset
from tarloom.read.plan.catalog import ShardFiles

CREATION = "create"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A row that failed, and in which stage."""

    stage: str
    key: str
    url: str | None
    error: str
    message: str


@dataclass(kw_only=True)
class StageFacts:
    """What a stage did: creation, or what a sidecar's name says."""

    name: str
    statuses: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    """Rows that failed, by named error."""
    made_by: dict[str, str] = field(default_factory=dict)
    """The fingerprint of the first shard's sidecar."""
    shards: int = 0

    @property
    def rows(self) -> int:
        return self.statuses.total()


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast a stage ran."""

    name: str
    rows: int
    seconds: float
    """While it worked."""
    whole_seconds: float | None = None
    """With the start of the program, its engine and its model, where that is known."""

    @property
    def per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0


@dataclass(kw_only=True)
class Facts:
    """Numbers of a whole dataset."""

    shards: int
    samples: int
    tar_bytes: int
    stages: dict[str, StageFacts] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    """The first of them."""
    problems: list[str] = field(default_factory=list)
    """Files that could not be read."""
    created: list[tuple[float, float]] = field(default_factory=list)
    """When the creation of each shard began and ended, seconds since 1970, as far as stats say."""

    @property
    def creation(self) -> StageFacts | None:
        return self.stages.get(CREATION)

    def stage(self, name: str) -> StageFacts:
        return self.stages.setdefault(name, StageFacts(name=name))


def gather_facts(dataset: Dataset, *, failures: int) -> Facts:
    """Count everything, list the first `failures` failed rows. A file that cannot be read is named in `problems`."""
    facts = Facts(
        shards=len(dataset.shards), samples=len(dataset), tar_bytes=sum(shard.size for shard in dataset.shards)
    )
    storage = dataset.catalog.storage
    for shard in dataset.shards:
        for found in _failures_of(storage, shard, facts):
            if len(facts.failures) < failures:
                facts.failures.append(found)
    return facts


def read_rates(runs: str | None, facts: Facts) -> list[Rate]:
    """Rates from a JSON file of runs; without one, creation's from its stats. Raises UsageError for a bad file."""
    if runs is None:
        if facts.creation is None or not facts.created:
            return []
        return [Rate(name=CREATION, rows=facts.creation.rows, seconds=seconds_of(facts.created))]
    try:
        listed = json.loads(Path(runs).read_text(encoding="utf-8"))
        return list(map(_rate, listed))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{runs}: not a JSON list of runs with name, rows and seconds ({error})") from error


def seconds_of(spans: Iterable[tuple[float, float]]) -> float:
    """How long any of these was under way: a run that was stopped and went on later did nothing in between."""
    seconds, reached = 0.0, -math.inf
    for start, end in sorted(spans):
        seconds += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return seconds


def _rate(run: Mapping[str, Any]) -> Rate:
    whole = run.get("whole_seconds")
    return Rate(
        name=str(run["name"]),
        rows=int(run["rows"]),
        seconds=float(run["seconds"]),
        whole_seconds=None if whole is None else float(whole),
    )


def _failures_of(storage: Storage, shard: ShardFiles, facts: Facts) -> Iterator[Failure]:
    """Count a shard's rows and yield its failures."""
    yield from _tolerant(_creation_failures(storage, shard, facts), facts)
    for stage in shard.sidecars:
        yield from _tolerant(_stage_failures(storage, shard, stage, facts), facts)


def _tolerant(failures: Iterable[Failure], facts: Facts) -> Iterator[Failure]:
    try:
        yield from failures
    except ShardError as error:
        facts.problems.append(str(error))


def _creation_failures(storage: Storage, shard: ShardFiles, facts: Facts) -> Iterator[Failure]:
    stats = read_stats(storage, shard.shard)
    if stats is not None:
        facts.created.append((stats.start_time, stats.end_time))
    if not shard.has_metadata:
        return
    name = metadata_name(shard.shard)
    there = read_schema(storage, name).names
    if not {"key", "status"} <= set(there):
        return
    wanted = [c for c in ("key", "status", "url", ERROR, "error_message") if c in there]
    creation = facts.stage(CREATION)
    table = _count(creation, read_table(storage, name, wanted, texts=wanted))
    columns = [texts_of(column.combine_chunks()) for column in table.columns]
    for values in zip(*columns, strict=True):
        row = dict(zip(table.column_names, values, strict=True))
        message = row.get("error_message") or ""
        error = row.get(ERROR) or _name_of(message)
        creation.errors[error] += 1
        yield Failure(stage=CREATION, key=row["key"] or "", url=row.get("url"), error=error, message=message)


def _stage_failures(storage: Storage, shard: ShardFiles, stage: str, facts: Facts) -> Iterator[Failure]:
    found = facts.stage(stage)
    info = sidecar_info(storage, shard.shard, stage)
    if info is not None and not found.made_by:
        found.made_by = dict(info.fingerprint)
    for row in _count(found, read_sidecar(storage, shard.shard, stage, [KEY, STATUS, ERROR])).to_pylist():
        error = row[ERROR] or row[STATUS]
        found.errors[error] += 1
        yield Failure(stage=stage, key=row[KEY], url=None, error=error, message=row[STATUS])


def _count(stage: StageFacts, table: pa.Table) -> pa.Table:
    """Add the table's statuses to the stage's; return the rows that are no success."""
    stage.shards += 1
    status = table.column(STATUS)
    stage.statuses.update(Counter(map(str, status.to_pylist())))
    return table.filter(pc.not_equal(status, pa.scalar(SUCCESS)))


def _name_of(message: str) -> str:
    """A name for errors of datasets that have none; img2dataset's messages are such as "HTTP Error 404: Not Found"."""
    head = message.split(":")[0].strip()
    return head.lower().replace(" ", "_")[:40] or "unknown"
