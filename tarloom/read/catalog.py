"""What lies in a dataset's folder, from one listing; and what its indexes say, loaded in parallel when first needed."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import CorruptShard, ShardError, StorageError, UsageError
from tarloom.format.index import KEY, ShardIndex, is_text
from tarloom.format.index_load import load_index
from tarloom.format.layout import PLAN, describe_lack, find_tars, metadata_name, sidecar_name, stats_name
from tarloom.format.parquet import read_schema
from tarloom.format.sidecar import find_sidecars
from tarloom.format.storage import Entry, Storage, open_dataset_storage
from tarloom.read.view import Column

THREADS = 16
"""Indexes loaded at a time: mostly waiting for storage."""


@dataclass(frozen=True, kw_only=True)
class ShardFiles:
    """A shard and the files that belong to it."""

    shard: str
    tar: Entry
    has_metadata: bool
    sidecars: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of the tar."""
        return self.tar.size


@dataclass(frozen=True, kw_only=True)
class ShardFacts:
    """What a shard's index says, in brief."""

    rows: int
    identity: str
    member_bytes: Mapping[str, int]
    """Bytes of all members of each extension."""


Loaded = ShardFacts | ShardError | StorageError
"""Of a shard, or why it cannot be opened."""
NOTHING = ShardFacts(rows=0, identity="", member_bytes={})


class Catalog:
    """The shards of a folder, and what their indexes and footers say. Shared by all views of a dataset."""

    def __init__(self, storage: Storage, shards: Sequence[ShardFiles]) -> None:
        self.storage = storage
        self.shards = tuple(shards)
        self._lock = Lock()
        self._facts: tuple[ShardFacts, ...] | None = None
        self._members: tuple[str, ...] = ()
        self._columns: dict[str, Column] | None = None
        self.unreadable: list[CorruptShard] = []
        """Why tables were passed over in the search for columns."""
        self.broken: dict[int, ShardError | StorageError] = {}
        """Why shards cannot be opened, by their numbers; known when the facts are."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock())

    def facts(self, *, tolerant: bool = False) -> tuple[ShardFacts, ...]:
        """One a shard, in their order. Raises ShardError or StorageError for the first shard that cannot be opened.

        tolerant: such shards have no rows instead, and are in `broken`.
        """
        with self._lock:
            if self._facts is None:
                found = list(_in_threads(self._load_facts, self.shards))
                self.broken = {i: facts for i, facts in enumerate(found) if not isinstance(facts, ShardFacts)}
                self._facts = tuple(facts if isinstance(facts, ShardFacts) else NOTHING for facts in found)
                self._members = tuple(sorted({member for facts in self._facts for member in facts.member_bytes}))
            if self.broken and not tolerant:
                raise next(iter(self.broken.values()))
            return self._facts

    def members(self) -> tuple[str, ...]:
        """All extensions of shards that can be opened, sorted."""
        self.facts(tolerant=True)
        return self._members

    def columns(self) -> Mapping[str, Column]:
        """Columns of metadata and sidecars by name, from the first footer of each that can be read.

        One damaged table hides no others: whoever reads its rows is told.
        """
        with self._lock:
            if self._columns is None:
                self._columns = {column.name: column for column in self._find_columns()}
            return self._columns

    def index(self, number: int) -> ShardIndex:
        """The index of the shard at this place."""
        shard = self.shards[number]
        return cached_index(self.storage, shard.shard, shard.tar, self.facts(tolerant=True)[number].identity)

    def _load_facts(self, shard: ShardFiles) -> Loaded:
        try:
            index = load_index(self.storage, shard.shard, shard.tar)
        except (ShardError, StorageError) as error:
            return error
        return ShardFacts(
            rows=index.rows,
            identity=index.identity,
            member_bytes={ext: pc.sum(index.sizes(ext)).as_py() or 0 for ext in index.extensions},
        )

    def _find_columns(self) -> Iterator[Column]:
        schema = self._first_schema(metadata_name(shard.shard) for shard in self.shards if shard.has_metadata)
        if {"key", "status"} <= set(schema.names):
            yield from (Column(name=f.name, stage=None, field=f.name, type=f.type) for f in schema)
        for stage in sorted({stage for shard in self.shards for stage in shard.sidecars}):
            schema = self._first_schema(sidecar_name(s.shard, stage) for s in self.shards if stage in s.sidecars)
            fields = [f for f in schema if f.name != KEY] if KEY in schema.names else []
            yield from (Column(name=f"{stage}.{f.name}", stage=stage, field=f.name, type=f.type) for f in fields)

    def _first_schema(self, names: Iterable[str]) -> pa.Schema:
        """Of the first of these tables that can be read; without columns where there is none."""
        for name in names:
            try:
                return read_schema(self.storage, name)
            except CorruptShard as error:
                self.unreadable.append(error)
        return pa.schema([])


@functools.lru_cache(maxsize=32)
def cached_index(storage: Storage, shard: str, tar: Entry, identity: str) -> ShardIndex:
    """A shard's index, kept for the next piece of the same shard in this process.

    identity: as the dataset that asks knows it; a dataset opened after a shard has changed does not see the old one.
    """
    return load_index(storage, shard, tar)


def open_catalog(path: str | Path) -> Catalog:
    """Find the shards below a folder, or the one tar that `path` names.

    In a folder with a plan, only shards with their commit mark are taken. Raises UsageError where there is no shard.
    """
    storage, tar = open_dataset_storage(path)
    return _nonempty(storage, [shard for shard in _shards(storage) if tar in (None, shard.tar.name)], str(path))


def _shards(storage: Storage) -> list[ShardFiles]:
    """From one listing, in the order of their names.

    Raises UsageError for a name that no table can hold, and for two tars of one shard.
    """
    entries = {entry.name: entry for entry in storage.list()}
    tars = {shard: entries[name] for shard, name in find_tars(entries, storage.url).items()}
    unnameable = next((shard for shard in tars if not is_text(shard)), None)
    if unnameable is not None:
        raise UsageError(f"{storage.url}: the name of the shard {unnameable!r} is not UTF-8; rename its files")
    sidecars = find_sidecars(entries)
    return [
        ShardFiles(
            shard=shard,
            tar=tars[shard],
            has_metadata=metadata_name(shard) in entries,
            sidecars=sidecars.get(shard, ()),
        )
        for shard in sorted(tars)
        if PLAN not in entries or stats_name(shard) in entries
    ]


def _nonempty(storage: Storage, shards: list[ShardFiles], path: str) -> Catalog:
    if shards:
        return Catalog(storage, shards)
    local = storage.local_path("")
    if local is not None and not local.exists():
        raise UsageError(f"{path}: no such folder; check the path")
    raise UsageError(f"{path}: {describe_lack(entry.name for entry in storage.list())}")


def _in_threads(load: Callable[[ShardFiles], Loaded], shards: Sequence[ShardFiles]) -> Iterator[Loaded]:
    """What there is to load of every shard, in order. Raises StorageError where storage gives nothing any more."""
    pool, refused = ThreadPoolExecutor(min(THREADS, len(shards))), 0
    try:
        for loaded in pool.map(load, shards):
            refused = refused + 1 if isinstance(loaded, StorageError) else 0
            if isinstance(loaded, StorageError) and refused >= THREADS:
                raise loaded
            yield loaded
    finally:
        pool.shutdown(cancel_futures=True)
