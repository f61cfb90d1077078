"""What lies beside a tar goes along with its sound copy where it still joins; what does not is left out and said."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar, cast

import pyarrow as pa

from tarloom.errors import CorruptShard
from tarloom.format.index import KEY, ShardIndex, read_index
from tarloom.format.layout import metadata_name, sidecar_name, stats_name
from tarloom.format.metadata import SUCCESS, Stats, read_stats, write_stats
from tarloom.format.parquet import read_table, write_table
from tarloom.format.repair.inventory import Inventory, reason_of
from tarloom.format.sidecar import UNCHANGED, SidecarInfo, read_sidecar, sidecar_info, write_sidecar
from tarloom.format.storage import Storage

Thing = TypeVar("Thing")


class _DoesNotJoin(Exception):
    """Why a file cannot go along."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beside:
    """A shard's files beside its tar: where they were, and where they go."""

    source: Storage
    output: Storage
    shard: str
    names: Collection[str]
    """Of all files of the source."""
    stages: Sequence[str]
    """Whose sidecars it has."""

    def carry(self, index: ShardIndex, sha256: str, inventory: Inventory) -> ShardIndex:
        """Write what still joins, note what does not. index: of the new tar, whose bytes have this hash.

        Returns the index with the identity by which readers will call the new tar.
        """
        keys = cast(list[str], index.keys.to_pylist())
        table = self._unless_unfit(inventory, metadata_name(self.shard), lambda: self._metadata(keys, inventory))
        stats = self._unless_unfit(inventory, stats_name(self.shard), lambda: self._stats(len(keys), table))
        if stats is not None:
            index = dataclasses.replace(index, identity=f"sha256:{sha256}")
        for stage in self.stages:
            made = self._unless_unfit(inventory, sidecar_name(self.shard, stage), self._sidecar(stage, keys, inventory))
            if made is not None:
                info = dataclasses.replace(made[1], identity=index.identity, rows=len(keys), carried=UNCHANGED)
                write_sidecar(self.output, self.shard, made[0], info)
        if table is not None:
            write_table(self.output, metadata_name(self.shard), table, _footer(table))
        if stats is not None:
            stats = dataclasses.replace(stats, identity=index.identity, tar_size=index.size)
            write_stats(self.output, self.shard, stats)
        return index

    def _unless_unfit(self, inventory: Inventory, name: str, make: Callable[[], Thing]) -> Thing | None:
        """What `make` makes of a file; None, and a note, where it cannot go along."""
        if name not in self.names:
            return None
        try:
            return make()
        except (_DoesNotJoin, CorruptShard) as error:
            inventory.note(f"{name} left out", reason_of(error, self.source.describe(name)), lost=True)
            return None

    def _metadata(self, keys: Sequence[str], inventory: Inventory) -> pa.Table:
        """The table without the successes whose samples are lost."""
        table = read_table(self.source, metadata_name(self.shard), texts=("key", "status"))
        if not {"key", "status"} <= set(table.column_names):
            raise _DoesNotJoin("no metadata: it lacks the column key or status")
        found, statuses = table.column("key").to_pylist(), table.column("status").to_pylist()
        successes = [key for key, status in zip(found, statuses, strict=True) if status == SUCCESS]
        _check_rows(successes, keys)
        wanted = set(keys)
        kept = [status != SUCCESS or key in wanted for key, status in zip(found, statuses, strict=True)]
        if not all(kept):
            lost = next(key for key in successes if key not in wanted)
            inventory.note("rows of metadata without a sample left out", repr(lost), lost=True, count=kept.count(False))
        return table.filter(pa.array(kept))

    def _stats(self, rows: int, table: pa.Table | None) -> Stats:
        stats = read_stats(self.source, self.shard)
        if stats is None or table is None or (stats.count, stats.successes) != (table.num_rows, rows):
            raise _DoesNotJoin("its counts are not those of the copy")
        return stats

    def _sidecar(
        self, stage: str, keys: Sequence[str], inventory: Inventory
    ) -> Callable[[], tuple[pa.Table, SidecarInfo]]:
        def make() -> tuple[pa.Table, SidecarInfo]:
            info = sidecar_info(self.source, self.shard, stage)
            if info is None or info.identity not in {inventory.identity, *self._identities()}:
                raise _DoesNotJoin("made for another version of the tar")
            table = read_sidecar(self.source, self.shard, stage)
            found = table.column(KEY).to_pylist()
            _check_rows(found, keys)
            rows = {key: row for row, key in enumerate(found)}
            return table.take(pa.array([rows[key] for key in keys], pa.int64())), info

        return make

    def _identities(self) -> Iterator[str]:
        """What the source's tar is called by its stats and its stored index."""
        for read in (read_stats, read_index):
            try:
                found = read(self.source, self.shard)
            except CorruptShard:
                continue
            if found is not None and found.identity is not None:
                yield found.identity


def _check_rows(found: Sequence[str | None], keys: Sequence[str]) -> None:
    """Raise unless every key has exactly one row."""
    counts = Counter(found)
    wrong = next((key for key in keys if counts[key] != 1), None)
    if wrong is not None:
        raise _DoesNotJoin(f"it has {counts[wrong]} rows for sample {wrong!r}")


def _footer(table: pa.Table) -> dict[str, str]:
    """What a footer says, but for what Arrow writes there itself."""
    found = table.schema.metadata or {}
    return {key.decode(): value.decode() for key, value in found.items() if key != b"ARROW:schema"}
