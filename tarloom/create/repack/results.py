"""What became of a new shard's samples, and the metadata and counts that say so."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.create.repack.rows import NewRows
from tarloom.create.repack.samples import Carried
from tarloom.create.rows import EncodedPicture
from tarloom.create.shards.results import failure_status
from tarloom.errors import FetchError, RowError
from tarloom.format.metadata import SUCCESS, Stats, stats_of

SIZES = ("width", "height")
FIRST_SEEN = ("original_width", "original_height", "exif")
"""Columns about the picture as it was first fetched: they stay as they are, if they are known."""


@dataclass(kw_only=True)
class Results:
    """Gathered while samples are written, by the sample's place among the shard's samples."""

    keys: list[str]
    errors: dict[int, RowError] = field(default_factory=dict)
    pictures: dict[int, EncodedPicture] = field(default_factory=dict)
    """Those that are new, without their bytes."""
    digests: dict[int, str] = field(default_factory=dict)
    """Of pictures as they came, where the metadata had none."""
    changed: bool = False
    """Whether any of them has other bytes than the old one."""
    bytes: int = 0
    """Of the members written."""
    started: float = field(default_factory=time.time)
    _taken: set[str] = field(default_factory=set)

    def note(self, place: int, carried: Carried) -> bool:
        """Note what became of a sample, unless it has failed before; whether it is to be written."""
        if place in self.errors:
            return False
        error: RowError | None = carried.error
        if error is None and carried.key is not None:
            self.keys[place] = carried.key
            error = FetchError("duplicate_key", "a sample before it in the shard has its key")
            error = error if carried.key in self._taken else None
            self._taken.add(carried.key)
        if error is not None:
            self.errors[place] = error
            return False
        if carried.picture is not None:
            self.pictures[place] = replace(carried.picture, data=b"")
            self.changed |= carried.changed
        if carried.digest is not None:
            self.digests[place] = carried.digest
        return True

    def written_keys(self) -> list[str | None]:
        """Of each sample, None where it failed."""
        return [None if place in self.errors else key for place, key in enumerate(self.keys)]

    def metadata(self, rows: NewRows, digest: str | None) -> pa.Table:
        """The rows with what has become of them. digest: the column of hashes, if there is one."""
        table = _put(rows, rows.table, "key", dict(enumerate(self.keys)))
        for name in SIZES:
            table = _put(rows, table, name, {at: getattr(new, name) for at, new in self.pictures.items()})
        for name in FIRST_SEEN:
            table = _put(rows, table, name, {at: getattr(new, name) for at, new in self.pictures.items()}, missing=True)
        if digest is not None:
            table = _put(rows, table, digest, self.digests)
        for name in (*SIZES, *FIRST_SEEN, *([digest] if digest else [])):
            table = _put(rows, table, name, dict.fromkeys(self.errors))
        table = _put(rows, table, "status", {at: failure_status(error) for at, error in self.errors.items()})
        table = _put(rows, table, "error_message", {at: str(error) for at, error in self.errors.items()})
        return _put(rows, table, "error", {at: error.name for at, error in self.errors.items()})

    def stats(self, table: pa.Table, *, identity: str, tar_size: int) -> Stats:
        """The counts of this metadata."""
        statuses = Counter(map(str, table.column("status").to_pylist()))
        messages = Counter(_messages(table))
        return stats_of(statuses, messages, started=self.started, identity=identity, tar_size=tar_size)


def _messages(table: pa.Table) -> list[str]:
    """Of each row "success", or what went wrong in words."""
    statuses, messages = table.column("status").to_pylist(), table.column("error_message").to_pylist()
    return [
        SUCCESS if status == SUCCESS else str(message or status)
        for status, message in zip(statuses, messages, strict=True)
    ]


def _put(rows: NewRows, table: pa.Table, name: str, values: Mapping[int, Any], *, missing: bool = False) -> pa.Table:
    """The table with these values in a column, by sample. missing: only where it holds null."""
    if not values or name not in table.column_names:
        return table
    kind = table.schema.field(name)
    places = rows.places[np.fromiter(values, np.int64, len(values))]
    chosen, numbers = np.zeros(table.num_rows, bool), np.zeros(table.num_rows, np.int64)
    chosen[places], numbers[places] = True, np.arange(len(places))
    mask = pc.and_(pa.array(chosen), pc.is_null(table.column(name))) if missing else pa.array(chosen)
    new = pa.array(list(values.values()), kind.type).take(pa.array(numbers))
    return table.set_column(table.column_names.index(name), kind, pc.if_else(mask, new, table.column(name)))
