"""What a run has to do: for each shard, the stages whose sidecar is not there, or not whole, or to be tried again."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tarloom.errors import CorruptShard, StageMismatch, UsageError
from tarloom.format.layout import sidecar_name
from tarloom.format.sidecar import ERROR, STATUS, SidecarInfo, describe_difference, read_sidecar, sidecar_info
from tarloom.format.storage import Storage
from tarloom.process.answers import report_of, to_retry
from tarloom.process.config import ProcessConfig
from tarloom.process.parts import Parts
from tarloom.process.stage import Stage
from tarloom.process.task import ShardReport, ShardTask, StageReport, StageTask, shard_report
from tarloom.read.dataset import Dataset
from tarloom.read.plan.pieces import Piece

LOOKERS = 16
"""Shards whose sidecars are looked at side by side: mostly waiting for storage."""

Found = tuple[ShardTask | None, ShardReport | None]
"""What is to be done for a shard, and what earlier runs did."""


class Planner:
    """Compares stages with what lies beside a dataset's shards. stages: by the sidecars' names."""

    def __init__(self, dataset: Dataset, stages: Mapping[str, Stage], config: ProcessConfig) -> None:
        self._dataset, self._stages, self._config = dataset, stages, config
        self._storage: Storage = dataset.catalog.storage
        self._members = dataset.catalog.members()
        self._check_place()
        self._fingerprints = {name: stage.fingerprint() for name, stage in stages.items()}
        self._joined = {name: self._columns_of(name) for name in stages}

    def found(self) -> list[Found]:
        """One a shard, empty ones included: every shard gets its sidecars. Raises StageMismatch."""
        with ThreadPoolExecutor(LOOKERS) as pool:
            return list(pool.map(self._look, self._pieces()))

    @property
    def batch_rows(self) -> int:
        """Rows that are answered at a time: as few as one of the stages wants."""
        return min(max(1, stage.batch_size // stage.calls) for stage in self._stages.values())

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

    def _columns_of(self, name: str) -> tuple[str, ...]:
        """The columns that a stage wants and the dataset has to give: all but those of stages before it."""
        before = [other for other in self._stages if other != name][: list(self._stages).index(name)]
        return tuple(c for c in self._stages[name].inputs if c.partition(".")[0] not in before)

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
                view=self._dataset.select().view,
            )

    def _look(self, piece: Piece) -> Found:
        tasks: list[StageTask] = []
        reports: dict[str, StageReport] = {}
        for name in self._stages:
            info = SidecarInfo(
                stage=name, fingerprint=self._fingerprint(name, piece.shard), identity=piece.identity, rows=piece.rows
            )
            done = self._done(piece, info)
            if isinstance(done, StageReport):
                Parts(storage=piece.storage, shard=piece.shard, info=info).drop()
                reports[name] = done
            else:
                tasks.append(done)
        return self._task(piece, tasks), shard_report(piece.shard, reports) if reports else None

    def _task(self, piece: Piece, tasks: list[StageTask]) -> ShardTask | None:
        if not tasks:
            return None
        wanted = [self._stages[task.name] for task in tasks]
        members = [m for m in self._members if any(m in stage.members for stage in wanted)]
        # what an earlier stage of this run would say, had it not been done before, is joined like all else
        columns = [c for stage in wanted for c in stage.inputs if c.partition(".")[0] not in {t.name for t in tasks}]
        view = self._dataset.select(*members, *columns).view
        return ShardTask(piece=replace(piece, view=view), stages=tuple(tasks), batch_rows=self.batch_rows)

    def _fingerprint(self, name: str, shard: str) -> Mapping[str, str]:
        """The stage's own, and for each column that it wants to see, what made that."""
        made = dict(self._fingerprints[name])
        for column in self._stages[name].inputs:
            source = column.partition(".")[0]
            made[f"input {column}"] = self._source_of(source, shard) if "." in column else "metadata"
        return made

    def _source_of(self, source: str, shard: str) -> str:
        """A digest of the fingerprint of the sidecars that a column comes from."""
        if source in self._stages:
            return _digest(self._fingerprint(source, shard))
        info = sidecar_info(self._storage, shard, source)
        return "missing" if info is None else _digest(info.fingerprint)

    def _done(self, piece: Piece, wanted: SidecarInfo) -> StageReport | StageTask:
        """The report of a stage whose sidecar is there already, else what is to be done."""
        where = self._storage.describe(sidecar_name(piece.shard, wanted.stage))
        try:
            found = sidecar_info(self._storage, piece.shard, wanted.stage)
        except CorruptShard:
            if self._config.overwrite:
                return StageTask(info=wanted)
            raise
        if found is None:
            return StageTask(info=wanted)
        if dict(found.fingerprint) != dict(wanted.fingerprint):
            if self._config.overwrite:
                return StageTask(info=wanted)
            raise StageMismatch(
                f"{where}: made with {describe_difference(found.fingerprint, wanted.fingerprint)}; "
                "give this run another --name, or --overwrite"
            )
        if (found.identity, found.rows) != (wanted.identity, wanted.rows):
            return StageTask(info=wanted)
        endings = read_sidecar(self._storage, piece.shard, wanted.stage, [STATUS, ERROR])
        if any(to_retry(endings, self._config.retry_failed)):
            return StageTask(info=wanted, retry=self._config.retry_failed)
        return report_of(endings, skipped=True)


def _digest(fingerprint: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(fingerprint), sort_keys=True).encode()).hexdigest()[:16]
