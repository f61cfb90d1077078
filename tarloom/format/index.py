"""Where every member of every sample lies in its tar: built while packing, or by one walk over the headers.

An index is a cache beside the truth. It is believed only while its tar has the size that its footer names and, where
we walked the tar, the same ETag or time of last change; otherwise the tar is walked again and the new index kept: in
the dataset's folder, or in the user's cache directory (TARLOOM_CACHE) where the dataset cannot be written. (An index
made while packing holds no time: the same input must give the same bytes. Nobody but us writes those tars.)

The table has one row per sample, in tar order: `__key__`, then for every extension EXT of the shard `EXT:offset` and
`EXT:size` (int64, null where the sample has no such member).
"""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from tarloom.errors import CorruptShard, StaleIndex, StorageError
from tarloom.format.layout import index_name, tar_name
from tarloom.format.metadata import read_stats
from tarloom.format.parquet import FORMAT_VERSION, read_table, write_table
from tarloom.format.storage import Entry, LocalStorage, Storage
from tarloom.format.tar import Member, ReadAt, split_name, walk

KEY = "__key__"
_RESERVED = {KEY, "__url__", "__bad__"}
"""What webdataset and all readers here keep in a sample beside its members."""
_REPACK = "; pack the shard anew, the members of a sample side by side"
_WINDOW_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """The samples of one shard and where their members lie."""

    shard: str
    size: int
    """Of the tar, in bytes."""
    identity: str
    """sha256:HEX of the tar's bytes where we packed it, else headers:HEX of all names, places, sizes and times."""
    table: pa.Table
    etag: str | None = None
    """The tar's ETag, or time of last change, when it was walked; None in an index made while packing."""

    @property
    def rows(self) -> int:
        """Samples in the shard."""
        return self.table.num_rows

    @cached_property
    def keys(self) -> pa.StringArray:
        """The samples' keys, in tar order."""
        return cast(pa.StringArray, _flat(self.table, KEY))

    @cached_property
    def extensions(self) -> tuple[str, ...]:
        """The extensions that any sample has, sorted."""
        return tuple(name.removesuffix(":size") for name in self.table.column_names if name.endswith(":size"))

    def offsets(self, extension: str) -> pa.Int64Array:
        """Byte offsets of these members' data, one per sample; null where a sample has none."""
        return cast(pa.Int64Array, _flat(self.table, f"{extension}:offset"))

    def sizes(self, extension: str) -> pa.Int64Array:
        """Bytes of these members, one per sample; null where a sample has none."""
        return cast(pa.Int64Array, _flat(self.table, f"{extension}:size"))


class IndexBuilder:
    """Gathers members in tar order. `where` is the tar's address, for messages."""

    def __init__(self, where: str = "tar") -> None:
        self._where = where
        self._keys: list[str] = []
        self._seen: set[str] = set()
        self._members: dict[str, tuple[list[int], list[int], list[int]]] = {}

    def add(self, key: str, extension: str, offset: int, size: int) -> None:
        """Raises CorruptShard where a sample's members are not together, one comes twice, or none can be called so."""
        if not self._keys or self._keys[-1] != key:
            self._start(key, offset)
        if extension not in self._members:
            self._check_extension(extension, offset)
        rows, offsets, sizes = self._members.setdefault(extension, ([], [], []))
        row = len(self._keys) - 1
        if rows and rows[-1] == row:
            raise CorruptShard(f"{self._where}: sample {key!r} has a second {extension!r} at byte {offset}{_REPACK}")
        rows.append(row)
        offsets.append(offset)
        sizes.append(size)

    def finish(self, shard: str, size: int, identity: str, etag: str | None = None) -> ShardIndex:
        """The index of all that was added. size: of the tar in bytes."""
        columns: dict[str, Any] = {KEY: pa.array(self._keys, pa.string())}
        for extension, (rows, offsets, sizes) in sorted(self._members.items()):
            columns[f"{extension}:offset"] = _scattered(rows, offsets, len(self._keys))
            columns[f"{extension}:size"] = _scattered(rows, sizes, len(self._keys))
        return ShardIndex(shard=shard, size=size, identity=identity, table=pa.table(columns), etag=etag)

    def _start(self, key: str, offset: int) -> None:
        if key in self._seen:
            raise CorruptShard(f"{self._where}: sample {key!r} goes on at byte {offset}, behind other samples{_REPACK}")
        self._check_text(key, offset)
        self._keys.append(key)
        self._seen.add(key)

    def _check_extension(self, extension: str, offset: int) -> None:
        self._check_text(extension, offset)
        if extension in _RESERVED:
            what = f"an extension {extension!r} at byte {offset}, a name that readers use themselves"
            raise CorruptShard(f"{self._where}: {what}; pack the shard anew under another")

    def _check_text(self, name: str, offset: int) -> None:
        if not is_text(name):
            raise CorruptShard(f"{self._where}: the name {name!r} at byte {offset} is not UTF-8; pack the shard anew")


class HeadersHash:
    """The identity of a tar that we did not pack, from its members' names, places, sizes and times."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, member: Member) -> None:
        """Members come in tar order."""
        line = f"{member.offset} {member.size} {member.mtime} {member.name}\0"
        self._hash.update(line.encode(errors="surrogateescape"))

    @property
    def identity(self) -> str:
        """Of all members so far: headers:HEX."""
        return f"headers:{self._hash.hexdigest()}"


def write_index(storage: Storage, index: ShardIndex) -> None:
    """Commit an index under its own name."""
    footer = {
        "tarloom.format_version": FORMAT_VERSION,
        "tarloom.shard": index.shard,
        "tarloom.tar_size": str(index.size),
        "tarloom.identity": index.identity,
        "tarloom.etag": index.etag or "",
        "tarloom.rows": str(index.rows),
    }
    write_table(storage, index_name(index.shard), index.table, footer)


def read_index(storage: Storage, shard: str) -> ShardIndex | None:
    """The stored index, None where there is none. Raises CorruptShard if it is no index of this shard."""
    name = index_name(shard)
    if storage.head(name) is None:
        return None
    table = read_table(storage, name)
    footer = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    try:
        index = ShardIndex(
            shard=footer["tarloom.shard"],
            size=int(footer["tarloom.tar_size"]),
            identity=footer["tarloom.identity"],
            table=table.replace_schema_metadata(None),
            etag=footer.get("tarloom.etag") or None,
        )
        sound = index.shard == shard and footer["tarloom.format_version"] == FORMAT_VERSION
    except (KeyError, ValueError):
        sound = False
    if not sound or not _has_index_columns(table) or int(footer["tarloom.rows"]) != table.num_rows:
        raise CorruptShard(f"{storage.describe(name)}: not an index of shard {shard!r}; delete it: it is made anew")
    return index


def scan_index(storage: Storage, shard: str, tar: Entry | None = None) -> ShardIndex:
    """The index made by a walk over the tar's headers. Raises StorageError where there is no tar."""
    name = tar_name(shard)
    where = storage.describe(name)
    tar = tar or storage.head(name)
    if tar is None:
        raise StorageError(f"{where}: no such file")
    builder, headers = IndexBuilder(where), HeadersHash()
    for member in walk(tar_reader(storage, tar), tar.size, where):
        headers.add(member)
        parts = split_name(member.name)
        if parts is not None:
            builder.add(*parts, member.offset, member.size)
    return builder.finish(shard, tar.size, headers.identity, tar.etag)


def load_index(storage: Storage, shard: str, tar: Entry) -> ShardIndex:
    """The stored index if it was made for this tar, else a new one, kept for the next time."""
    tar = _versioned(storage, tar)
    for place in (storage, cache_storage(storage)):
        with contextlib.suppress(CorruptShard):  # a cache that cannot be read is made anew
            index = read_index(place, shard)
            if index is not None and fits(index, tar):
                return index
    index = _with_packed_identity(storage, scan_index(storage, shard, tar))
    for place in (storage, cache_storage(storage)):
        with contextlib.suppress(StorageError):  # nowhere to keep it: the next reader walks the tar again
            write_index(place, index)
            break
    return index


def fits(index: ShardIndex, tar: Entry) -> bool:
    """Whether an index was made for a tar of this size and, where both are known, this ETag."""
    return index.size == tar.size and (not index.etag or not tar.etag or index.etag == tar.etag)


def cache_storage(storage: Storage) -> LocalStorage:
    """Where indexes of a dataset that cannot be written are kept: a folder in the user's cache directory."""
    root = os.environ.get("TARLOOM_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "tarloom")
    dataset = hashlib.sha256(storage.url.encode()).hexdigest()[:32]
    return LocalStorage(str(Path(root).expanduser().absolute() / dataset))


def tar_reader(storage: Storage, tar: Entry) -> ReadAt:
    """How to read a tar forwards: memory-mapped where it is local, else by windows of some MiB."""
    if isinstance(storage, LocalStorage):
        view = storage.map(tar.name)
        return lambda offset, size: view[offset : offset + size]
    return _Window(storage, tar)


def _versioned(storage: Storage, tar: Entry) -> Entry:
    """The entry with what tells this version of a tar from another one of its size, in a local folder too.

    Raises StaleIndex where the tar is of another size by now.
    """
    path = storage.local_path(tar.name)
    if path is None or not path.exists():
        return tar
    found = path.stat()
    if found.st_size != tar.size:
        now = f"is {found.st_size} bytes long now, was {tar.size} when it was listed"
        raise StaleIndex(f"{storage.describe(tar.name)}: {now}; open the dataset again")
    return tar if tar.etag is not None else dataclasses.replace(tar, etag=f"mtime:{found.st_mtime_ns}")


class _Window:
    """Reads ahead in an object, so that a walk over small members costs few requests."""

    def __init__(self, storage: Storage, tar: Entry) -> None:
        self._storage = storage
        self._tar = tar
        self._start = 0
        self._data = memoryview(b"")

    def __call__(self, offset: int, size: int) -> memoryview:
        within = offset - self._start
        if within < 0 or within + size > len(self._data):
            length = min(max(size, _WINDOW_BYTES), self._tar.size - offset)
            self._data = self._storage.read_ranges(self._tar.name, [offset], [length])[0]
            self._start, within = offset, 0
        return self._data[within : within + size]


def _with_packed_identity(storage: Storage, index: ShardIndex) -> ShardIndex:
    """The index with the identity that the shard's stats name, if they are ours and of a tar of this size.

    Thus an index made anew has the identity that sidecars were made for.
    """
    try:
        stats = read_stats(storage, index.shard)
    except CorruptShard:
        return index
    if stats is None or stats.identity is None or stats.tar_size != index.size:
        return index
    return dataclasses.replace(index, identity=stats.identity)


def _scattered(rows: Sequence[int], values: Sequence[int], length: int) -> pa.Int64Array:
    """An int64 array of this length with the values at these rows, null elsewhere."""
    full, absent = np.zeros(length, np.int64), np.ones(length, bool)
    full[rows], absent[rows] = values, False
    return cast(pa.Int64Array, pa.array(full, mask=absent))


def _flat(table: pa.Table, name: str) -> Any:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def is_text(key: str) -> bool:
    """Whether it can stand in a table: names that were no UTF-8 hold surrogates."""
    return key.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in key)


def _has_index_columns(table: pa.Table) -> bool:
    names, types = table.column_names, table.schema.types
    pairs = zip(names[1::2], names[2::2], strict=False)
    return (
        names[:1] == [KEY]
        and types[0] == pa.string()
        and len(names) % 2 == 1
        and all(kind == pa.int64() for kind in types[1:])
        and all(a.removesuffix("offset") == b.removesuffix("size") != a for a, b in pairs)
    )
