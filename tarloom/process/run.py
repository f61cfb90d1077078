"""The one shard loop: read a shard's batches, let the stage answer, commit the answers as a sidecar.

The sidecar is the commit mark. A run over a folder does the shards that have none, or one made for an older version
of the shard; a sidecar of another fingerprint is refused unless the run is named otherwise or told to overwrite.
"""

import errno
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from tarloom.engines.base import Engine, Report
from tarloom.errors import CorruptShard, EngineError, ShardError, StageMismatch, StorageError, UsageError
from tarloom.format.index import KEY
from tarloom.format.layout import sidecar_name
from tarloom.format.sidecar import (
    ERROR,
    STATUS,
    SUCCESS,
    SidecarInfo,
    check_stage_name,
    describe_difference,
    read_sidecar,
    sidecar_info,
    write_sidecar,
)
from tarloom.process.stage import Stage, StageWorker, result_schema
from tarloom.read.dataset import Dataset, open_dataset
from tarloom.read.plan.pieces import Piece
from tarloom.read.samples.batches import read_piece
from tarloom.read.view import View

LOOKERS = 16
"""Shards whose sidecars are looked at side by side: mostly waiting for storage."""
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""Reasons for which no other shard could be written either."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ProcessConfig:
    """What is processed, and what becomes of sidecars that are there already."""

    path: str
    """The dataset's folder, local or remote. Sidecars are written beside its shards."""
    name: str | None = None
    """Name of the sidecars, SHARD.NAME.parquet, and of their columns, NAME.column; the stage's own if not given."""
    overwrite: bool = False
    """Replace sidecars of this name that were made with another model or other options."""


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """A shard to be processed, and what the sidecar's footer will say."""

    piece: Piece
    """The whole shard."""
    info: SidecarInfo
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class ShardProcessor:
    """Opens a stage and runs it over shards: what is sent to an engine."""

    stage: Stage

    def __call__(self) -> "OpenProcessor":
        return OpenProcessor(self.stage.open())


@dataclass(frozen=True)
class OpenProcessor:
    """A stage's worker, ready for shards."""

    worker: StageWorker

    def __call__(self, task: ShardTask) -> Report:
        return process_shard(self.worker, task)

    def close(self) -> None:
        self.worker.close()


def process_shard(worker: StageWorker, task: ShardTask) -> Report:
    """Run a stage over all rows of a shard and commit the sidecar.

    Raises ShardError where the shard cannot be read, EngineError where nothing can be written at its place.
    """
    started = time.monotonic()
    piece, answers, size = task.piece, [], 0
    for batch in read_piece(piece, batch_rows=task.batch_size):
        answers.append(_answer(worker, batch))
        size += batch.nbytes
    schema = result_schema(worker.columns)
    table = pa.concat_tables(answers) if answers else schema.empty_table()
    if table.num_rows != piece.rows:
        raise ShardError(f"{piece.url}: {piece.rows} rows planned, {table.num_rows} read; open the dataset again")
    _commit(task, table)
    successes, errors = _count(table)
    return Report(
        shard=piece.shard,
        rows=table.num_rows,
        successes=successes,
        errors=errors,
        bytes=size,
        seconds=time.monotonic() - started,
    )


def _answer(worker: StageWorker, batch: pa.RecordBatch) -> pa.Table:
    answer = worker(batch)
    if not answer.column(KEY).combine_chunks().equals(batch.column(KEY)):
        raise EngineError("the stage did not answer its batch row for row: keys differ from those it was given")
    return answer


def _commit(task: ShardTask, table: pa.Table) -> None:
    try:
        write_sidecar(task.piece.storage, task.piece.shard, table.combine_chunks(), task.info)
    except StorageError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in NO_ROOM:
            raise EngineError(str(error)) from error
        raise


def _count(table: pa.Table) -> tuple[int, dict[str, int]]:
    """Successes, and the other rows by error."""
    statuses = Counter(table.column(STATUS).to_pylist())
    errors = Counter(error for error in table.column(ERROR).to_pylist() if error is not None)
    return statuses[SUCCESS], dict(sorted(errors.items()))


@dataclass(frozen=True, kw_only=True)
class ProcessSummary:
    """What a run did and what lies there now. rows = successes + all of failed_by_error."""

    rows: int
    successes: int
    failed_by_error: Mapping[str, int]
    shards: int
    """Shards that are done."""
    skipped: int
    """Shards that an earlier run had done; their rows are counted too."""
    failed_shards: Mapping[str, str]
    """Why, by shard."""
    bytes: int
    seconds: float
    rows_per_second: float
    """Of what this run did, loading the model included."""


class ProcessJob:
    """A stage over all shards of a dataset. Prepare it, iterate over its reports, then ask for the summary."""

    def __init__(self, stage: Stage, config: ProcessConfig, engine: Engine) -> None:
        self.stage = stage
        self.config = config
        self.total = 0
        """Rows in all shards."""
        self._engine = engine
        self._todo: list[ShardTask] = []
        self._reports: list[Report] = []
        self._failed: dict[str, str] = {}
        self._seconds = 0.0

    @property
    def name(self) -> str:
        """Of the sidecars."""
        return self.stage.name if self.config.name is None else self.config.name

    def prepare(self) -> None:
        """Find what is to be done. Raises UsageError, StageMismatch among them, before any work is started."""
        check_stage_name(self.name)
        self.stage.check()
        dataset = open_dataset(self.config.path)
        self._check_place(dataset)
        tasks = self._tasks(dataset)
        self.total = sum(task.info.rows for task in tasks)
        dataset.catalog.storage.sweep()
        with ThreadPoolExecutor(LOOKERS) as pool:
            found = list(pool.map(self._done, tasks))
        self._reports = [report for report in found if report is not None]
        self._todo = [task for task, report in zip(tasks, found, strict=True) if report is None]

    def __iter__(self) -> Iterator[Report]:
        """Reports of shards done earlier, then of others as they are done. A shard that fails has none."""
        yield from tuple(self._reports)
        started = time.monotonic()
        try:
            for outcome in self._engine.map(ShardProcessor(stage=self.stage), self._todo):
                if outcome.result is None:
                    shard = outcome.item.piece.shard
                    self._failed[shard] = outcome.error or "no reason was given"
                    logger.warning("shard %s failed: %s", shard, outcome.error)
                else:
                    self._reports.append(outcome.result)
                    yield outcome.result
        finally:
            self._seconds = time.monotonic() - started

    def summary(self) -> ProcessSummary:
        errors: Counter[str] = Counter()
        for report in self._reports:
            errors.update(report.errors)
        done_now = sum(report.rows for report in self._reports if not report.skipped)
        return ProcessSummary(
            rows=sum(report.rows for report in self._reports),
            successes=sum(report.successes for report in self._reports),
            failed_by_error=dict(sorted(errors.items())),
            shards=len(self._reports),
            skipped=sum(report.skipped for report in self._reports),
            failed_shards=dict(sorted(self._failed.items())),
            bytes=sum(report.bytes for report in self._reports),
            seconds=round(self._seconds, 3),
            rows_per_second=round(done_now / self._seconds, 1) if self._seconds else 0.0,
        )

    def _check_place(self, dataset: Dataset) -> None:
        path, shards = self.config.path, {files.shard for files in dataset.shards}
        if not set(self.stage.members) & set(dataset.catalog.members()):
            has = ", ".join(dataset.catalog.members()) or "none"
            raise UsageError(
                f"{path}: no member that this stage can use ({', '.join(self.stage.members)}); it has {has}"
            )
        clash = next((shard for shard in shards if f"{shard}.{self.name}" in shards), None)
        if clash is not None:
            raise UsageError(
                f"{path}: {sidecar_name(clash, self.name)} is another shard's metadata; choose another --name"
            )
        folder = dataset.catalog.storage.local_path("")
        if folder is not None and not os.access(folder, os.W_OK):
            raise UsageError(f"{path}: sidecars cannot be written here; check the folder's permissions")

    def _tasks(self, dataset: Dataset) -> list[ShardTask]:
        """One a shard, whatever its size, empty ones included: every shard gets its sidecar."""
        view = View(members=tuple(name for name in self.stage.members if name in dataset.catalog.members()))
        fingerprint = self.stage.fingerprint()
        tasks = []
        for files, facts in zip(dataset.shards, dataset.catalog.facts(), strict=True):
            piece = Piece(
                storage=dataset.catalog.storage,
                shard=files.shard,
                tar=files.tar,
                identity=facts.identity,
                first=0,
                last=facts.rows,
                view=view,
            )
            info = SidecarInfo(stage=self.name, fingerprint=fingerprint, identity=facts.identity, rows=facts.rows)
            tasks.append(ShardTask(piece=piece, info=info, batch_size=self.stage.batch_size))
        return tasks

    def _done(self, task: ShardTask) -> Report | None:
        """The report of a shard whose sidecar is there already; None where there is work to do."""
        storage, shard, wanted = task.piece.storage, task.piece.shard, task.info
        where = storage.describe(sidecar_name(shard, self.name))
        try:
            found = sidecar_info(storage, shard, self.name)
        except CorruptShard:
            if self.config.overwrite:
                return None
            raise
        if found is None:
            return None
        if dict(found.fingerprint) != dict(wanted.fingerprint):
            if self.config.overwrite:
                return None
            raise StageMismatch(
                f"{where}: made with {describe_difference(found.fingerprint, wanted.fingerprint)}; "
                "give this run another --name, or --overwrite"
            )
        if (found.identity, found.rows) != (wanted.identity, wanted.rows):
            return None
        successes, errors = _count(read_sidecar(storage, shard, self.name, [STATUS, ERROR]))
        return Report(shard=shard, rows=found.rows, successes=successes, errors=errors, skipped=True)
