"""Parts of a sidecar: what a stage has answered of a shard that it is not through with.

    _tarloom/parts/caption/00000/000000064.parquet    the answers of one batch, by the first row's number

Each batch's answer is a file of its own as soon as it is there. When all rows are answered they become the sidecar, and
the parts go. A part is believed only if its footer names the stage's fingerprint and this version of the shard.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from tarloom.errors import CorruptShard
from tarloom.format.layout import PRIVATE
from tarloom.format.parquet import open_table, write_table
from tarloom.format.sidecar import SidecarInfo, info_metadata
from tarloom.format.storage import Storage

ROW = "__row__"
PARTS = f"{PRIVATE}/parts"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Of one stage and shard."""

    storage: Storage
    shard: str
    info: SidecarInfo

    @property
    def folder(self) -> str:
        return f"{PARTS}/{self.info.stage}/{self.shard}"

    def found(self) -> list[pa.Table]:
        """Those of earlier runs, with the column `__row__`: the rows' numbers. What cannot be read is left out."""
        return [table for name in self._names() if (table := self._read(name)) is not None]

    def add(self, numbers: Sequence[int], answer: pa.Table) -> None:
        """Commit the answers of these rows."""
        table = answer.append_column(ROW, pa.array(numbers, pa.int64()))
        write_table(self.storage, f"{self.folder}/{numbers[0]:09d}.parquet", table, info_metadata(self.info))

    def drop(self) -> None:
        """Remove them all."""
        for name in self._names():
            self.storage.delete(name)

    def _names(self) -> list[str]:
        return sorted(entry.name for entry in self.storage.list(self.folder))

    def _read(self, name: str) -> pa.Table | None:
        try:
            table = open_table(self.storage, name)
            fits = table.footer() == info_metadata(self.info)
            return table.read().replace_schema_metadata(None) if fits else None
        except CorruptShard:
            return None
