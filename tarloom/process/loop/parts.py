"""Parts of a sidecar: what a stage has answered of a shard that it is not through with.

    _tarloom/parts/00000.caption/000000064.parquet        the answers of one batch, by the first row's number
    _tarloom/parts/00000.caption/000000064.all.parquet    the same, of a run that asks again about rows that failed

Each batch's answer is a file of its own as soon as it is there. When all rows are answered they become the sidecar, and
the parts go. A part is believed only if its footer names the stage's fingerprint and this version of the shard, and its
checksums hold: it is not synced to the disk, since to lose it costs one batch.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import pyarrow as pa

from tarloom.errors import CorruptShard
from tarloom.format.ahead import ahead_where_it_waits
from tarloom.format.layout import PRIVATE, is_shard_file, shard_of
from tarloom.format.parquet import find_table, table_bytes
from tarloom.format.sidecar import SidecarInfo, info_metadata
from tarloom.format.storage import Storage
from tarloom.process.task import Again

ROW = "__row__"
PARTS = f"{PRIVATE}/parts"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of one stage's sidecar for one shard."""

    storage: Storage
    shard: str
    info: SidecarInfo
    retry: Again = "none"
    """Which answered rows this run asks about again. It is part of the file name, so that runs with other settings do
    not overwrite each other's parts."""

    @property
    def folder(self) -> str:
        return _folder(self.shard, self.info.stage)

    def found(self) -> list[tuple[str, pa.Table]]:
        """Those of earlier runs: which rows these asked again, and the answers, newer ones last.

        The column `__row__` has the rows' numbers. What cannot be read is left out.
        """
        names = sorted((entry.name for entry in self.storage.list(self.folder)), key=lambda name: (_retry(name), name))
        tables = ahead_where_it_waits(self._read, names, self.storage)
        return [(_retry(name) or "none", table) for name, table in zip(names, tables, strict=True) if table is not None]

    def add(self, numbers: Sequence[int], answer: pa.Table) -> None:
        """Commit the answers of these rows."""
        table = answer.append_column(ROW, pa.array(numbers, pa.int64()))
        mark = "" if self.retry == "none" else f".{self.retry}"
        name = f"{self.folder}/{numbers[0]:09d}{mark}.parquet"
        self.storage.write_unsynced(name, table_bytes(table, info_metadata(self.info)))

    def drop(self) -> None:
        """Remove them all."""
        self.storage.delete_folder(self.folder)

    def _read(self, name: str) -> pa.Table | None:
        try:
            table = find_table(self.storage, name)
            fits = table is not None and table.footer() == info_metadata(self.info)
            return table.read().replace_schema_metadata(None) if table is not None and fits else None
        except CorruptShard:
            return None


def sweep_parts(storage: Storage, stages: Set[str], unfinished: Set[tuple[str, str]]) -> None:
    """Remove what these stages left of shards that are done or gone. unfinished: pairs of shard and stage."""
    for shard, stage in sorted(shards_with_parts(storage) - unfinished):
        if stage in stages:
            storage.delete_folder(_folder(shard, stage))


def parts_of_others(storage: Storage, shards: Set[str]) -> set[tuple[str, str]]:
    """Pairs of shard and stage that have parts, of shards that lie there and are not among these."""
    others = {pair for pair in shards_with_parts(storage) if pair[0] not in shards}
    there = {shard_of(entry.name) for entry in storage.list() if is_shard_file(entry.name)} if others else set()
    return {pair for pair in others if pair[0] in there}


def shards_with_parts(storage: Storage) -> set[tuple[str, str]]:
    """Pairs of shard and stage, seen in one listing."""
    folders = {entry.name.removeprefix(f"{PARTS}/").rpartition("/")[0] for entry in storage.list(PARTS)}
    return {(shard, stage) for shard, _, stage in (folder.rpartition(".") for folder in folders)}


def _retry(name: str) -> str:
    """What a part's name says that its run asked again; "" for none."""
    return name.rpartition("/")[2].removesuffix(".parquet").partition(".")[2]


def _folder(shard: str, stage: str) -> str:
    """Called as the sidecar will be."""
    return f"{PARTS}/{shard}.{stage}"
