"""Indexes of shards that this process has read, kept for their next pieces."""

import os
from threading import Lock

from tarloom.format.catalog_file import forget_catalog
from tarloom.format.index import ShardIndex
from tarloom.format.index_load import load_index
from tarloom.format.storage import Entry, Storage

INDEXES_KEPT = 32
INDEX_BYTES_KEPT = 256 << 20
"""Of all indexes that are kept: foreign tars may have millions of samples."""

_most_kept = [INDEXES_KEPT]
_kept: dict[tuple[Storage, str, Entry, str], tuple[ShardIndex, int]] = {}
"""Indexes and their bytes; the last that was used comes last."""
_loading: dict[tuple[Storage, str, Entry, str], Lock] = {}
"""Held while an index is loaded: threads that read pieces of one shard side by side loaded nearly all of them twice."""
os.register_at_fork(after_in_child=_loading.clear)  # whoever holds them is not there


def cached_index(storage: Storage, shard: str, tar: Entry, identity: str) -> ShardIndex:
    """A shard's index, kept for the next piece of the same shard in this process.

    identity: as the dataset that asks knows it; a dataset opened after a shard has changed does not see the old one.
    """
    wanted = (storage, shard, tar, identity)
    held = _kept.pop(wanted, None)
    if held is None:
        try:
            with _loading.setdefault(wanted, Lock()):
                held = _kept.get(wanted) or _loaded(*wanted)
                _kept[wanted] = held
        finally:
            _loading.pop(wanted, None)
    _kept[wanted] = held
    _forget_old()
    return held[0]


def forget_index(storage: Storage, shard: str) -> None:
    """Where a shard is not what its index says: what is kept of it in this process, and the catalogue made of that."""
    for held in list(_kept):
        if held[:2] == (storage, shard):
            _kept.pop(held, None)
    forget_catalog(storage)


def keep_indexes(count: int) -> None:
    """Keep so many from now on in this process, if they are small: for readers that come back to shards in no order."""
    _most_kept[0] = max(count, _most_kept[0])


def _loaded(storage: Storage, shard: str, tar: Entry, identity: str) -> tuple[ShardIndex, int]:
    index = load_index(storage, shard, tar, identity=identity)
    if index.identity != identity and storage.head(tar.name) == tar:
        forget_catalog(storage)  # An index was replaced, its tar was not: the catalogue cannot have seen that.
    return index, index.table.nbytes


def _forget_old() -> None:
    """Without a lock, since a fork may come at any time: every step is one that threads cannot divide."""
    while len(all_held := list(_kept.items())) > 1:
        if len(all_held) <= _most_kept[0] and sum(size for _, (_, size) in all_held) <= INDEX_BYTES_KEPT:
            return
        _kept.pop(all_held[0][0], None)
