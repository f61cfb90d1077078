"""Where every member of every sample lies in its tar: built while packing, or by a walk (index_load.py).

The table has one row per sample, in tar order: `__key__`, then for every extension EXT of the shard `EXT:offset` and
`EXT:size` (int64, null where the sample has no such member).
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import pyarrow as pa

from tarloom.errors import CorruptShard
from tarloom.format.layout import index_name, is_utf8
from tarloom.format.parquet import FORMAT_VERSION, find_table, write_table
from tarloom.format.storage import Storage
from tarloom.format.tar.headers import Member

KEY = "__key__"
MOST_EXTENSIONS = 1000
"""Of a shard: the index has two columns for each, as long as there are samples. More are no kinds of members, but parts
of names with dots, of which every sample has its own."""
_RESERVED = re.compile("__.*__", re.DOTALL)
"""What readers keep in a sample beside its members: its key, where it comes from, what went wrong, ..."""
_REPACK = "; make a copy with the members of a sample side by side with: tarloom repair"
_LEAVE_OUT = "; pack it anew under another name, or leave it out with: tarloom repair"


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
        if len(self._members) == MOST_EXTENSIONS:
            what = f"more than {MOST_EXTENSIONS} different extensions, such as {extension!r} at byte {offset}"
            raise CorruptShard(f"{self._where}: {what}: keys end at the first dot; pack it anew without dots in keys")
        if _RESERVED.fullmatch(extension):
            what = f"an extension {extension!r} at byte {offset}, a name that readers use themselves"
            raise CorruptShard(f"{self._where}: {what}{_LEAVE_OUT}")

    def _check_text(self, name: str, offset: int) -> None:
        if not is_utf8(name):
            raise CorruptShard(f"{self._where}: the name {name!r} at byte {offset} is not UTF-8{_LEAVE_OUT}")


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
    write_table(storage, index_name(index.shard), index.table, footer, near=True)


def read_index(storage: Storage, shard: str) -> ShardIndex | None:
    """The stored index, None where there is none. Raises CorruptShard if it is no index of this shard."""
    name = index_name(shard)
    found = find_table(storage, name)
    if found is None:
        return None
    table = found.read()
    try:
        footer = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        index = ShardIndex(
            shard=footer["tarloom.shard"],
            size=int(footer["tarloom.tar_size"]),
            identity=footer["tarloom.identity"],
            table=table.replace_schema_metadata(None),
            etag=footer.get("tarloom.etag") or None,
        )
        fits_footer = (footer["tarloom.format_version"], int(footer["tarloom.rows"])) == (FORMAT_VERSION, index.rows)
        sound = fits_footer and index.shard == shard and _has_index_columns(table)
    except (KeyError, ValueError):
        sound = False
    if not sound:
        raise CorruptShard(f"{storage.describe(name)}: not an index of shard {shard!r}; delete it: it is made anew")
    return index


def _scattered(rows: Sequence[int], values: Sequence[int], length: int) -> pa.Int64Array:
    """An int64 array of this length with the values at these rows, null elsewhere."""
    full, absent = np.zeros(length, np.int64), np.ones(length, bool)
    full[rows], absent[rows] = values, False
    return cast(pa.Int64Array, pa.array(full, mask=absent))


def _flat(table: pa.Table, name: str) -> Any:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _has_index_columns(table: pa.Table) -> bool:
    """Whether the columns are the key and, for each extension, offset and size."""
    sizes = [name for name in table.column_names if name.endswith(":size")]
    places = [f"{name.removesuffix(':size')}:{what}" for name in sizes for what in ("offset", "size")]
    types = [pa.string(), *(pa.int64() for _ in places)]
    return table.column_names == [KEY, *places] and table.schema.types == types
