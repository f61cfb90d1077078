"""What lies in a dataset's folder, from one listing; and what its indexes say, from its catalogue or a look at each."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa

from tarloom.errors import CorruptShard, ShardError, StorageError, UsageError
from tarloom.format.ahead import ahead_where_it_waits
from tarloom.format.catalog_file import known_tars
from tarloom.format.index import KEY, ShardIndex
from tarloom.format.layout import (
    NAMES_OF_READERS,
    PLAN,
    describe_lack,
    find_tars,
    finished_without_tar,
    is_shard_file,
    metadata_name,
    sidecar_name,
    stats_name,
    tar_name,
)
from tarloom.format.parquet import read_schema
from tarloom.format.sidecar import ERROR, STATUS, find_sidecars
from tarloom.format.storage import Entry, Storage, denied_is_absent, open_dataset_storage, open_storage
from tarloom.read.plan.facts import Facts, load_facts, lost_tar
from tarloom.read.plan.indexes import cached_index
from tarloom.read.view import Column

REASONS_KEPT = 16
TABLES_ASKED = 16
"""For the type of a column that is empty in the first of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
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


class Catalog:
    """The shards of a folder, and what their indexes and footers say. Shared by all views of a dataset."""

    def __init__(self, storage: Storage, shards: Sequence[ShardFiles]) -> None:
        self.storage = storage
        self.shards = tuple(shards)
        self._lock = Lock()
        self._facts: Facts | None = None
        self._columns: dict[str, Column] | None = None
        self.unreadable: list[CorruptShard] = []
        """Why tables were passed over in the search for columns: some of the reasons, if there are many."""
        self.broken: dict[int, ShardError | StorageError] = {}
        """Why shards cannot be opened, by their numbers; known when the facts are."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock())

    def facts(self, *, tolerant: bool = False) -> Facts:
        """One a shard, in their order. Raises ShardError or StorageError for the first shard that cannot be opened.

        tolerant: such shards have no rows instead, and are in `broken`.
        """
        with self._lock:
            if self._facts is None:
                with_sidecars = {shard.tar.name for shard in self.shards if shard.sidecars}
                tars = [shard.tar for shard in self.shards]
                self._facts, self.broken = load_facts(self.storage, tars, with_sidecars)
            if self.broken and not tolerant:
                raise next(iter(self.broken.values()))
            return self._facts

    def members(self) -> tuple[str, ...]:
        """All extensions of shards that can be opened, sorted."""
        return self.facts(tolerant=True).members

    def columns(self) -> Mapping[str, Column]:
        """Columns of metadata and sidecars by name, from the first footer of each that can be read.

        Those of a foreign metadata that are called as what readers give a sample themselves are left out.
        One damaged table hides no others: whoever reads its rows is told.
        """
        with self._lock:
            if self._columns is None:
                self._columns = {column.name: column for column in self._find_columns()}
                self.unreadable.sort(key=str)  # in whatever order they were met
            return self._columns

    def index(self, number: int) -> ShardIndex:
        """The index of the shard at this place."""
        shard = self.shards[number]
        return cached_index(self.storage, shard.shard, shard.tar, self.facts(tolerant=True).identity(number))

    def find(self, key: str) -> Iterator[tuple[int, int]]:
        """Number of the shard, and row in it, of each sample of this key: a key may begin anew in every shard.

        Only indexes of shards that may hold it are loaded, several at a time, while more are asked for: one where keys
        are row numbers, all where they are in no order.
        """
        wanted, numbers = pa.scalar(key, pa.string()), self.facts(tolerant=True).may_hold(key)

        def row_in(number: int) -> int:
            row: int = self.index(number).keys.index(wanted).as_py()
            return row

        rows = ahead_where_it_waits(row_in, numbers, self.storage)
        return ((number, row) for number, row in zip(numbers, rows, strict=True) if row >= 0)

    def _find_columns(self) -> Iterator[Column]:
        """Of the metadata, then of the sidecars; from a store their footers come side by side."""
        stages = (None, *sorted({stage for shard in self.shards for stage in shard.sidecars}))
        for stage, schema in zip(stages, ahead_where_it_waits(self._schema_of, stages, self.storage), strict=True):
            if stage is None and {"key", "status"} <= set(schema.names):
                yield from _columns_of(None, schema)
            elif stage is not None and KEY in schema.names:
                yield from _columns_of(stage, schema.remove(schema.get_field_index(KEY)))

    def _schema_of(self, stage: str | None) -> pa.Schema:
        """Of a sidecar, or of the metadata (None), from the first table that can be read; without columns where there
        is none.

        Of a column that is empty there, and hence of no type, the type is that of the next tables, if these tell.
        """
        schemas = islice(self._schemas(self._tables_of(stage)), TABLES_ASKED)
        schema = next(schemas, pa.schema([]))
        while pa.null() in schema.types and (other := next(schemas, None)) is not None:
            types = {field.name: field.type for field in other}
            fields = [f.with_type(types.get(f.name, f.type)) if f.type == pa.null() else f for f in schema]
            schema = pa.schema(fields)
        return schema

    def _tables_of(self, stage: str | None) -> Iterator[str]:
        if stage is None:
            return (metadata_name(shard.shard) for shard in self.shards if shard.has_metadata)
        return (sidecar_name(shard.shard, stage) for shard in self.shards if stage in shard.sidecars)

    def _schemas(self, names: Iterable[str]) -> Iterator[pa.Schema]:
        for name in names:
            try:
                yield read_schema(self.storage, name)
            except CorruptShard as error:
                if len(self.unreadable) < REASONS_KEPT:
                    self.unreadable.append(error)


def text_columns(stage: str | None) -> tuple[str, ...]:
    """The columns of every sidecar, or of metadata (None), that are text however they are stored: of no type, where a
    shard had no error."""
    return ("key", "status") if stage is None else (KEY, STATUS, ERROR)


def _columns_of(stage: str | None, schema: pa.Schema) -> Iterator[Column]:
    texts, prefix = text_columns(stage), "" if stage is None else f"{stage}."
    for field in schema if stage else filter(lambda field: field.name not in NAMES_OF_READERS, schema):
        kind = pa.string() if field.name in texts else field.type
        yield Column(name=f"{prefix}{field.name}", stage=stage, field=field.name, type=kind)


def open_catalog(path: str | Path) -> Catalog:
    """Find the shards below a folder, or the one tar that `path` names.

    In a folder with a plan, only shards with their commit mark are taken. Raises UsageError where there is no shard.
    """
    storage, tar = open_dataset_storage(path)
    shards = [shard for shard in _shards(storage) if tar in (None, shard.tar.name)]
    if shards:
        return Catalog(storage, shards)
    local = storage.local_path("")
    if local is not None and not local.exists():
        raise UsageError(f"{path}: no such folder; check the path")
    raise UsageError(f"{path}: {describe_lack({entry.name for entry in storage.list()}, tar)}")


def catalog_of(path: str | Path, shards: Iterable[str]) -> Catalog:
    """These shards alone, which are known to be whole: nothing is listed, and no sidecar known.

    Raises ShardError for one that is not there.
    """
    storage = open_storage(path)
    return Catalog(storage, [_known_shard(storage, shard) for shard in shards])


def _known_shard(storage: Storage, shard: str) -> ShardFiles:
    tar = storage.head(tar_name(shard))
    if tar is None:
        raise ShardError(f"{storage.describe(tar_name(shard))}: is gone; create it again")
    return ShardFiles(shard=shard, tar=tar, has_metadata=storage.head(metadata_name(shard)) is not None, sidecars=())


def _shards(storage: Storage) -> list[ShardFiles]:
    """From one listing, in the order of their names.

    Raises UsageError for a name that no table can hold, and for two tars of one shard.
    """
    found, names = storage.survey(is_shard_file, known=partial(known_tars, storage))
    entries = {entry.name: entry for entry in found}
    tars = {shard: entries[name] for shard, name in find_tars(entries, storage.url).items()}
    names.update(entries)
    sidecars, planned = find_sidecars(names), _is_planned(storage, names)
    if planned:
        tars = _committed(storage, tars, names)
    return [
        ShardFiles(
            shard=shard,
            tar=tars[shard],
            has_metadata=metadata_name(shard) in names,
            sidecars=sidecars.get(shard, ()),
        )
        for shard in sorted(tars)
    ]


def _committed(storage: Storage, tars: Mapping[str, Entry], names: Collection[str]) -> dict[str, Entry]:
    """The tars of shards with their commit mark. One that has been lost since is not passed over: it cannot be opened.

    Where no tar is left, this is no folder of shards, but of pictures in other forms.
    """
    marked = {shard: tar for shard, tar in tars.items() if stats_name(shard) in names}
    unseen = finished_without_tar(names) if tars else []
    now = ahead_where_it_waits(storage.head, map(tar_name, unseen), storage)  # it may have come while we listed
    found = {shard: tar or lost_tar(shard) for shard, tar in zip(unseen, now, strict=True)}
    return marked | found


def _is_planned(storage: Storage, names: Collection[str]) -> bool:
    """Whether there is a plan; where nobody may look for it, whether there are stats, as planned shards have them."""
    with denied_is_absent():
        return storage.head(PLAN) is not None
    return any(name.endswith(stats_name("")) for name in names)
