"""What a run has to do: for each shard, the stages whose sidecar is not there, or not whole, or to be tried again."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pyarrow as pa

from tarloom.errors import CorruptShard, StageMismatch, UsageError
from tarloom.format.ahead import ahead_where_it_waits
from tarloom.format.layout import sidecar_name
from tarloom.format.parquet import find_table
from tarloom.format.sidecar import (
    ERROR,
    SKIPPED,
    STATUS,
    SUCCESS,
    SidecarInfo,
    describe_difference,
    info_in,
    sidecar_info,
)
from tarloom.format.storage import Storage
from tarloom.process.config import ProcessConfig
from tarloom.process.described import fingerprints, said_by
from tarloom.process.loop.answers import report_of, to_retry
from tarloom.process.loop.parts import parts_of_others, sweep_parts
from tarloom.process.stage import INPUT, Stage
from tarloom.process.task import Again, ShardReport, ShardTask, StageReport, StageTask, shard_report
from tarloom.read.dataset import Dataset
from tarloom.read.plan.facts import REMOTE_LOOKS
from tarloom.read.plan.pieces import Piece

REPLACING = "tarloom process (or embed, caption) with --overwrite"
"""Said by any program, of which some have no such option."""
Found = tuple[ShardTask | None, ShardReport | None]
"""What is to be done for a shard, and what earlier runs did."""


class Planner:
    """Compares stages with what lies beside a dataset's shards. stages: by the sidecars' names."""

    def __init__(self, dataset: Dataset, stages: Mapping[str, Stage], config: ProcessConfig) -> None:
        self._dataset, self._stages, self._config = dataset, stages, config
        self._storage: Storage = dataset.catalog.storage
        self._members = dataset.catalog.members()
        self._check_place()
        self._check_order()
        self._fingerprints = fingerprints(stages)
        self._checked = set[tuple[str, str, str]]()
        """Stages and columns with what made them, that fit."""
        self._view = lru_cache(lambda *names: dataset.select(*names).view)
        """Of these members and columns: the same for nearly all shards."""

    def found(self) -> list[Found]:
        """One a shard, empty ones included: every shard gets its sidecars. Raises StageMismatch."""
        looks = ahead_where_it_waits(self._look, self._pieces(), self._storage, remote_threads=REMOTE_LOOKS)
        return list(looks)

    def sweep(self, found: Iterable[Found]) -> None:
        """Remove what killed runs have left of these stages: temporaries, and parts of shards that are done or gone.

        Shards beside those of the dataset, which may be one tar of a folder, may be neither.
        """
        unfinished = {(task.piece.shard, stage.name) for task, _ in found if task for stage in task.stages}
        others = parts_of_others(self._storage, {files.shard for files in self._dataset.shards})
        self._storage.sweep()
        sweep_parts(self._storage, self._stages.keys(), unfinished | others)

    @property
    def batch_rows(self) -> int:
        """Rows that are answered at a time: as few as one of the stages wants."""
        return min(stage.batch_rows for stage in self._stages.values())

    def _check_place(self) -> None:
        """Raises UsageError where a stage has nothing to work on, or its sidecars no place."""
        path, shards = self._config.path, {files.shard for files in self._dataset.shards}
        for name, stage in self._stages.items():
            if stage.members and self._members and not set(stage.members) & set(self._members):
                raise UsageError(
                    f"{path}: no member that this stage can use ({', '.join(stage.members)}); "
                    f"it has {', '.join(self._members) or 'none'}"
                )
            clash = next((shard for shard in shards if f"{shard}.{name}" in shards), None)
            if clash is not None:
                raise UsageError(
                    f"{path}: {sidecar_name(clash, name)} is another shard's metadata; choose another --name"
                )
        folder = self._storage.local_path("")
        if folder is not None and not os.access(folder, os.W_OK):
            raise UsageError(f"{path}: sidecars cannot be written here; check the folder's permissions")

    def _check_order(self) -> None:
        """Raises UsageError where a stage wants to see what it or a later one has yet to say."""
        names = list(self._stages)
        for place, name in enumerate(names):
            for column in self._stages[name].inputs:
                if _source(column) in names[place:]:
                    raise UsageError(f"stage {name} wants to see {column}; name stage {_source(column)} before it")

    def _pieces(self) -> Iterator[Piece]:
        facts = self._dataset.catalog.facts()
        for files, shard in zip(self._dataset.shards, facts, strict=True):
            yield Piece(
                storage=self._storage,
                shard=files.shard,
                tar=files.tar,
                identity=shard.identity,
                first=0,
                last=shard.rows,
                view=self._view(),
            )

    def _look(self, piece: Piece) -> Found:
        tasks: dict[str, StageTask] = {}
        reports: dict[str, StageReport] = {}
        for name, stage in self._stages.items():
            info = SidecarInfo(
                stage=name, fingerprint=self._fingerprint(name, piece.shard), identity=piece.identity, rows=piece.rows
            )
            # what it could not say may be for want of what is now asked again
            again = any(_source(column) in tasks for column in stage.inputs)
            done = self._done(piece, info, "unsuccessful" if again else self._config.retry_failed)
            if isinstance(done, StageReport):
                reports[name] = done
            else:
                tasks[name] = done
        return self._task(piece, tasks), shard_report(piece.shard, reports) if reports else None

    def _task(self, piece: Piece, tasks: Mapping[str, StageTask]) -> ShardTask | None:
        if not tasks:
            return None
        wanted = [self._stages[name] for name in tasks]
        members = [m for m in self._members if any(m in stage.members for stage in wanted)]
        # what an earlier stage of this run has said before is joined like all else
        columns = [column for stage in wanted for column in stage.inputs if _source(column) not in tasks]
        view = self._view(*members, *dict.fromkeys(columns))
        return ShardTask(piece=replace(piece, view=view), stages=tuple(tasks.values()), batch_rows=self.batch_rows)

    def _fingerprint(self, name: str, shard: str) -> Mapping[str, str]:
        """The stage's own, and for each column that it wants to see, what made that."""
        made = dict(self._fingerprints[name])
        for column in self._stages[name].inputs:
            source = _source(column)
            fingerprint = None if source is None else self._made_by(source, shard)
            made[INPUT + column] = told = _told(source, fingerprint)
            if fingerprint is not None and (name, column, told) not in self._checked:
                with said_by(name, "check_input()"):
                    self._stages[name].check_input(column, fingerprint)
                self._checked.add((name, column, told))
        return made

    def _made_by(self, source: str, shard: str) -> Mapping[str, str] | None:
        """The fingerprint of the sidecar that a column comes from, None where there is none."""
        if source in self._stages:
            return self._fingerprint(source, shard)
        info = sidecar_info(self._storage, shard, source)
        return None if info is None else info.fingerprint

    def _done(self, piece: Piece, wanted: SidecarInfo, again: Again) -> StageReport | StageTask:
        """The report of a stage whose sidecar is there already, else what is to be done."""
        name = sidecar_name(piece.shard, wanted.stage)
        where, stage = self._storage.describe(name), self._stages[wanted.stage]
        # a killed run may have left failures in parts; they are asked again on request alone
        anew = StageTask(info=wanted, retry=self._again_in_parts(stage, again))
        try:
            table = find_table(self._storage, name)
            found = None if table is None else info_in(table, where, wanted.stage)
        except CorruptShard as error:
            if self._config.overwrite:
                return anew
            raise CorruptShard(f"{error}, such as by {REPLACING}") from error
        if table is None or found is None:
            return anew
        if dict(found.fingerprint) != dict(wanted.fingerprint):
            if self._config.overwrite:
                return anew
            raise StageMismatch(
                f"{where}: made with {describe_difference(found.fingerprint, wanted.fingerprint)}; "
                f"give this run another --name, or replace what is there by {REPLACING}"
            )
        if (found.identity, found.rows) != (wanted.identity, wanted.rows):
            return anew
        endings = table.read([*stage.counted, STATUS, ERROR], texts=(STATUS, ERROR))
        again = "unsuccessful" if self._may_say_more(piece.shard, stage, endings) else again
        if to_retry(endings, again, stage).any():
            return StageTask(info=replace(wanted, carried=found.carried), retry=again, amends=True)
        return report_of(endings, stage, skipped=True)

    def _again_in_parts(self, stage: Stage, again: Again) -> Again:
        if self._config.retry_failed == "none":
            return "none"
        return "unsuccessful" if _sources(stage) else again

    def _may_say_more(self, shard: str, stage: Stage, endings: pa.Table) -> bool:
        """Whether it skipped a row of which another stage has said since what it wants to see.

        Asked where failures are retried: that stage's retry may have been another run, or one that was killed after it.
        """
        if self._config.retry_failed == "none" or not _sources(stage):
            return False
        there = [_endings(self._storage, shard, source) == SUCCESS for source in _sources(stage)]
        skipped = endings.column(STATUS).to_numpy() == SKIPPED
        return all(len(each) == len(skipped) for each in there) and bool(np.logical_and.reduce([skipped, *there]).any())


def _sources(stage: Stage) -> set[str]:
    """The stages whose sidecars it wants to see."""
    return {source for column in stage.inputs if (source := _source(column)) is not None}


def _endings(storage: Storage, shard: str, stage: str) -> np.ndarray:
    """The statuses in a sidecar, of shape (rows,); of none where there is none."""
    table = find_table(storage, sidecar_name(shard, stage))
    return np.zeros(0, object) if table is None else table.read([STATUS], texts=(STATUS,)).column(STATUS).to_numpy()


def _told(source: str | None, fingerprint: Mapping[str, str] | None) -> str:
    """Of a column, in the fingerprint of a stage that wants to see it."""
    if source is None:
        return "metadata"
    return "missing" if fingerprint is None else _digest(fingerprint)


def _source(column: str) -> str | None:
    """The stage that says it; None for one of the metadata."""
    stage, dot, _ = column.partition(".")
    return stage if dot else None


def _digest(fingerprint: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(fingerprint), sort_keys=True).encode()).hexdigest()[:16]
