"""What the indexes of all shards say in brief: one Arrow table, so that a hundred thousand shards cost some megabytes.

Most of it comes from the catalogue (format/catalog_file.py); only shards that have no current row there are looked at.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import ShardError, StorageError
from tarloom.format.ahead import ahead_where_it_waits
from tarloom.format.catalog_file import SCHEMA, catalog_row, current_rows, read_catalog, write_catalog
from tarloom.format.index_load import load_index
from tarloom.format.layout import shard_of, tar_name
from tarloom.format.storage import Entry, Storage

HANDFUL = 16
"""As many shards are looked at as fast as a catalogue is read: fewer need none."""
REMOTE_LOOKS = 64
"""Indexes asked of an object store at a time: small requests, in great number the first time."""
_GROUP = 1024
"""Rows that are made from or into Python's values at a time."""
_Look = dict[str, Any] | ShardError | StorageError
"""What is found of a tar: its row of the catalogue, or why it cannot be opened."""


@dataclass(frozen=True, kw_only=True)
class ShardFacts:
    """What a shard's index says, in brief."""

    rows: int
    identity: str
    member_bytes: Mapping[str, int]
    """Bytes of all members of each extension."""


class Facts:
    """The facts of all shards, in their order; of a shard that cannot be opened, that it has no rows."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        """Its schema is the catalogue's."""

    def __len__(self) -> int:
        return self.table.num_rows

    def __iter__(self) -> Iterator[ShardFacts]:
        for first in range(0, len(self), _GROUP):
            yield from _facts_of(self.table.slice(first, _GROUP))

    @cached_property
    def rows(self) -> np.ndarray:
        """int64 of shape (shards,)."""
        return self.table["rows"].to_numpy()

    def identities(self) -> list[str]:
        """Of the shards' tars, in their order."""
        found: list[Any] = self.table["identity"].to_pylist()
        return found

    def identity(self, number: int) -> str:
        """Of the tar of the shard of this number."""
        found: str = self.table["identity"][number].as_py()
        return found

    @cached_property
    def members(self) -> tuple[str, ...]:
        """All extensions, sorted."""
        return tuple(sorted(pc.unique(self._members.keys).to_pylist()))

    def bytes_of(self, members: Sequence[str]) -> np.ndarray:
        """Bytes of these members in each shard: int64 of shape (shards,)."""
        wanted = pc.is_in(self._members.keys, value_set=pa.array(members, pa.string()))
        sizes = np.where(wanted, self._members.items, 0)
        reached = np.concatenate([[0], np.cumsum(sizes)])
        return np.diff(reached[self._members.offsets])

    def may_hold(self, key: str) -> list[int]:
        """The numbers of the shards whose keys reach from one that is not greater to one that is not less."""
        wanted: Any = pa.scalar(key, pa.string())
        least, greatest = self.table["least_key"], self.table["greatest_key"]
        within: Any = pc.and_(pc.less_equal(least, wanted), pc.greater_equal(greatest, wanted))
        numbers: list[int] = np.flatnonzero(within.fill_null(False)).tolist()
        return numbers

    @property
    def _members(self) -> Any:
        return self.table["members"].combine_chunks()


def lost_tar(shard: str) -> Entry:
    """Stands for the tar of a shard that was finished, and has none any more: the entry of a link to nothing."""
    return Entry(name=tar_name(shard), size=0)


def load_facts(
    storage: Storage, tars: Sequence[Entry], with_sidecars: Container[str]
) -> tuple[Facts, dict[int, ShardError | StorageError]]:
    """The facts of these shards; and why some cannot be opened, by their numbers.

    with_sidecars: the names of the tars that have any.
    Where many had to be looked at, the catalogue is written anew. Raises StorageError where the storage itself fails.
    """
    known = read_catalog(storage) if len(tars) > HANDFUL else SCHEMA.empty_table()
    places = current_rows(known, tars)
    absent = np.flatnonzero(places.is_null())
    looked_at, broken = _look_at(partial(_look, storage, with_sidecars), storage, tars, absent)
    numbers = places.fill_null(0).to_numpy().copy()
    numbers[absent] = known.num_rows + np.arange(len(absent))
    table = pa.concat_tables([known, looked_at]).take(numbers).combine_chunks()
    if len(absent) - len(broken) > HANDFUL:
        write_catalog(storage, table.filter(~np.isin(np.arange(len(tars)), list(broken))) if broken else table)
    return Facts(table), broken


def _look_at(
    look: Callable[[Entry], _Look], storage: Storage, tars: Sequence[Entry], numbers: np.ndarray
) -> tuple[pa.Table, dict[int, ShardError | StorageError]]:
    """The catalogue's rows of these tars, from their indexes."""
    tables: list[pa.Table] = [SCHEMA.empty_table()]
    broken: dict[int, ShardError | StorageError] = {}
    rows: list[dict[str, Any]] = []
    looks = _looks(look, storage, [tars[number] for number in numbers])
    for number, found in zip(numbers.tolist(), looks, strict=True):
        if isinstance(found, dict):
            rows.append(found)
        else:
            broken[number] = found
            rows.append(catalog_row(tars[number], None))
        if len(rows) == _GROUP:
            tables.append(pa.Table.from_pylist(rows, SCHEMA))
            rows = []
    return pa.concat_tables([*tables, pa.Table.from_pylist(rows, SCHEMA)]), broken


def _looks(look: Callable[[Entry], _Look], storage: Storage, tars: Sequence[Entry]) -> Iterator[_Look]:
    """What is found of every tar, in order. Raises StorageError where storage gives nothing any more."""
    refused = 0
    for found in ahead_where_it_waits(look, tars, storage, remote_threads=REMOTE_LOOKS):
        refused = refused + 1 if isinstance(found, StorageError) else 0
        if isinstance(found, StorageError) and refused >= HANDFUL:
            raise found
        yield found


def _look(storage: Storage, with_sidecars: Container[str], tar: Entry) -> _Look:
    try:
        if tar.is_gone:
            path = storage.local_path(tar.name)
            how = " (it is a link to nothing)" if path is not None and path.is_symlink() else ""
            raise ShardError(f"{storage.describe(tar.name)}: is gone; run its creation again, or bring it back{how}")
        index = load_index(storage, shard_of(tar.name), tar, has_sidecars=tar.name in with_sidecars)
        return catalog_row(tar, index)
    except (ShardError, StorageError) as error:
        return copy(error)  # without its traceback, which keeps all that its frames held


def _facts_of(table: pa.Table) -> Iterator[ShardFacts]:
    for row in table.select(["rows", "identity", "members"]).to_pylist():
        yield ShardFacts(rows=row["rows"], identity=row["identity"], member_bytes=dict(row["members"]))
