"""The index of a tar that is there: the stored one while it fits, else one made by a walk, and kept.

An index is a cache beside the truth. It is believed only while its tar has the size that its footer names and, where
we walked the tar, the same ETag or time of last change; otherwise the tar is walked again and the new index kept: in
the dataset's folder, or in the user's cache directory (TARLOOM_CACHE) where the dataset cannot be written. (An index
made while packing holds no time: the same input must give the same bytes. Nobody but us writes those tars.)
"""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tarloom.errors import CorruptShard, StaleIndex, StorageError
from tarloom.format.index import HeadersHash, IndexBuilder, ShardIndex, read_index, write_index
from tarloom.format.layout import compression_of, tar_name
from tarloom.format.metadata import read_stats
from tarloom.format.storage import Entry, LocalStorage, Storage, denied_is_absent
from tarloom.format.tar.compressed import Unpacked
from tarloom.format.tar.headers import ReadAt
from tarloom.format.tar.walk import split_name, walk

_WINDOW_BYTES = 4 << 20
_HASHED_BYTES = 32 << 20
"""Read at a time to be hashed."""
_HASHES_KEPT = 4096


def scan_index(storage: Storage, shard: str, tar: Entry | None = None) -> ShardIndex:
    """The index made by a walk over the tar's headers. Raises StorageError where there is no tar.

    tar: needed where it is not called by its shard's name and ".tar". A compressed one is decompressed for it.
    """
    tar = tar or storage.head(tar_name(shard))
    if tar is None:
        raise StorageError(f"{storage.describe(tar_name(shard))}: no such file")
    where = storage.describe(tar.name)
    builder, headers = IndexBuilder(where), HeadersHash()
    size = None if compression_of(tar.name) else tar.size
    read_at = tar_reader(storage, tar)
    for member in walk(read_at, size, where):
        headers.add(member)
        parts = split_name(member.name)
        if parts is not None:
            builder.add(*parts, member.offset, member.size)
    if isinstance(read_at, Unpacked):
        read_at.drain()
    return builder.finish(shard, tar.size, headers.identity, tar.etag)


def load_index(
    storage: Storage, shard: str, tar: Entry, *, identity: str | None = None, has_sidecars: bool = True
) -> ShardIndex:
    """The stored index if it was made for this tar, else a new one, kept for the next time.

    identity: what whoever found this tar knows it by. has_sidecars: whether any sidecar was made for the tar, so that
    it must be proven to be that one.
    """
    known = _Known(tar=tar, identity=identity, has_sidecars=has_sidecars)
    tar = versioned(storage, tar)
    for place in places(storage):
        with contextlib.suppress(CorruptShard), denied_is_absent():  # a cache that cannot be read is made anew
            index = read_index(place, shard)
            if index is not None and _fits(index, tar):
                return index
    index = _with_packed_identity(storage, tar, scan_index(storage, shard, tar), known)
    for place in places(storage):
        with contextlib.suppress(StorageError):  # nowhere to keep it: the next reader walks the tar again
            write_index(place, index)
            break
    return index


def _fits(index: ShardIndex, tar: Entry) -> bool:
    """Whether an index was made for a tar of this size and, where both are known, this ETag."""
    return index.size == tar.size and (not index.etag or not tar.etag or index.etag == tar.etag)


def places(storage: Storage) -> Iterator[Storage]:
    """Where what is known of a dataset can be kept: mostly in the first."""
    yield storage
    yield cache_storage(storage)


def cache_storage(storage: Storage) -> LocalStorage:
    """Where indexes of a dataset that cannot be written are kept: a folder in the user's cache directory.

    A user without a home has none: there is nothing in that folder then, and nothing can be written there.
    """
    root = os.environ.get("TARLOOM_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "tarloom")
    dataset = hashlib.sha256(storage.url.encode()).hexdigest()[:32]
    try:
        place = Path(root).expanduser().absolute()
    except RuntimeError:  # no HOME, and a number that no user has, as in containers
        place = Path(os.devnull)
    return LocalStorage(str(place / dataset))


def tar_reader(storage: Storage, tar: Entry) -> ReadAt:
    """How to read a tar forwards: as it is asked for where it is local, else by windows of some MiB."""
    if compression_of(tar.name):
        return Unpacked(storage, tar)
    if isinstance(storage, LocalStorage):
        return storage.reader(tar.name)
    return _Window(storage, tar)


def versioned(storage: Storage, tar: Entry) -> Entry:
    """The entry with what tells this version of a tar from another one of its size, in a local folder too.

    Raises StaleIndex where the tar is of another size by now.
    """
    found = storage.head(tar.name) if isinstance(storage, LocalStorage) else None
    if found is None:
        return tar
    if found.size != tar.size:
        now = f"is {found.size} bytes long now, was {tar.size} when it was listed"
        raise StaleIndex(f"{storage.describe(tar.name)}: {now}; open the dataset again")
    return tar if tar.etag is not None else dataclasses.replace(tar, etag=found.version)


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


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What is known of a tar before it is walked."""

    tar: Entry
    """As it was found."""
    identity: str | None
    """By which it was called then."""
    has_sidecars: bool


def _with_packed_identity(storage: Storage, tar: Entry, index: ShardIndex, known: _Known) -> ShardIndex:
    """The index with the identity that the shard's stats name, if the tar is still that which we packed.

    Thus an index made anew has the identity that sidecars were made for. Another tar may well have the size, so all of
    it is read; but only where there are sidecars, and nobody has done so before: the tar may be large, and far away.
    """
    try:
        stats = read_stats(storage, index.shard)
    except CorruptShard:
        return index
    if stats is None or stats.identity is None or stats.tar_size != index.size:
        return index
    is_known = known.identity == stats.identity and storage.head(tar.name) == known.tar
    if is_known or not known.has_sidecars or _packed(storage, tar) == stats.identity:
        return dataclasses.replace(index, identity=stats.identity)
    return index


@lru_cache(_HASHES_KEPT)
def _packed(storage: Storage, tar: Entry) -> str:
    """The identity of a tar that we packed. Kept, since there may be no place for the index."""
    found = hashlib.sha256()
    for offset in range(0, tar.size, _HASHED_BYTES):
        size = min(_HASHED_BYTES, tar.size - offset)
        found.update(storage.read_ranges(tar.name, [offset], [size])[0])
    return f"sha256:{found.hexdigest()}"
