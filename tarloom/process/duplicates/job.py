"""Mark copies: read the hashes of all shards, find those that are alike, write a sidecar beside each shard.

    copy_of     the key of the first picture that is alike; null for that picture, and for those without copies
    distance    bits in which the two differ

`where "duplicates.copy_of IS NULL"` then reads every picture once.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from tarloom.errors import UsageError
from tarloom.format.ahead import THREADS
from tarloom.format.index import KEY
from tarloom.format.layout import sidecar_name
from tarloom.format.sidecar import SKIPPED, SUCCESS, SidecarInfo, read_sidecar, sidecar_info, write_sidecar
from tarloom.format.storage import Storage
from tarloom.process.duplicates.near import MAX_DISTANCE, first_alike
from tarloom.process.stage import result_table
from tarloom.read.dataset import Dataset, open_dataset

NAME = "duplicates"
NO_HASH = "no_hash"
HASH = "hash"
COLUMNS: Mapping[str, pa.DataType] = {"copy_of": pa.string(), "distance": pa.int8()}
GIVE = "give --hash hash.phash or hash.dhash"


@dataclass(frozen=True, kw_only=True)
class DuplicatesConfig:
    """Which pictures count as copies."""

    path: str
    """The dataset's folder, local or remote, with sidecars of the hash stage."""
    hash: str = "hash.phash"
    """The column of perceptual hashes: hash.phash or hash.dhash."""
    distance: int = 4
    """Pictures are alike whose hashes differ in no more bits. 0: copies of other sizes; 8: cut or edited ones too."""


@dataclass(frozen=True, kw_only=True)
class DuplicatesSummary:
    """What was found."""

    rows: int
    hashes: int
    """Rows that have one."""
    copies: int
    """Rows that are like one before them."""
    originals: int
    """Rows that others are copies of."""
    most_copies: int
    """Of one picture."""


@dataclass(frozen=True, kw_only=True)
class _Shard:
    name: str
    identity: str
    table: pa.Table
    """`__key__` and the hashes."""


def mark_duplicates(config: DuplicatesConfig) -> DuplicatesSummary:
    """Write the sidecars; those of an earlier run are replaced. Raises UsageError where hashes are missing or stale."""
    if not 0 <= config.distance <= MAX_DISTANCE:
        raise UsageError(f"distance must be 0 to {MAX_DISTANCE}, not {config.distance}")
    if "." not in config.hash:
        raise UsageError(f"{config.hash!r} is no column of 64-bit hashes; {GIVE}")
    dataset = open_dataset(config.path)
    with ThreadPoolExecutor(THREADS) as pool:
        shards = list(
            pool.map(partial(_read, dataset.catalog.storage, config.hash), *zip(*_shards(dataset), strict=True))
        )
        rows = pa.concat_tables(shard.table for shard in shards).combine_chunks()
        there = np.flatnonzero(np.asarray(rows.column(HASH).is_valid()))
        hashes = np.asarray(rows.column(HASH).drop_null())
        first = first_alike(hashes, distance=config.distance)
        answers = _answers(rows.column(KEY), there, hashes, first)
        fingerprint = _fingerprint(config, hashes)
        list(pool.map(partial(_write, dataset.catalog.storage, fingerprint), shards, _slices(answers, shards)))
    _, copies = np.unique(first[first != np.arange(len(first))], return_counts=True)
    return DuplicatesSummary(
        rows=rows.num_rows,
        hashes=len(hashes),
        copies=int(copies.sum()),
        originals=len(copies),
        most_copies=int(copies.max(initial=0)),
    )


def _shards(dataset: Dataset) -> Iterator[tuple[str, str]]:
    for files, facts in zip(dataset.shards, dataset.catalog.facts(), strict=True):
        yield files.shard, facts.identity


def _read(storage: Storage, name: str, shard: str, identity: str) -> _Shard:
    """Raises UsageError where there are no hashes of this version of the shard."""
    stage, _, column = name.partition(".")
    where = storage.describe(sidecar_name(shard, stage))
    info = sidecar_info(storage, shard, stage)
    if info is None or info.identity != identity:
        why = "not there" if info is None else "made for another version of its shard"
        renamed = "" if stage == "hash" else f" --name {stage}"
        raise UsageError(
            f"{where}: {why}; run tarloom process --stages hash{renamed} first{renamed and f', or {GIVE}'}"
        )
    table = read_sidecar(storage, shard, stage)
    if column not in table.schema.names or table.schema.field(column).type != pa.uint64():
        raise UsageError(f"{where}: {column!r} is no column of 64-bit hashes; {GIVE}")
    # not with the file's own fields: keys of some may be null, as they say, and tables of both kinds are not joined
    hashes = pa.table([table.column(KEY), table.column(column)], [KEY, HASH])
    return _Shard(name=shard, identity=identity, table=hashes)


def _answers(keys: Any, there: np.ndarray, hashes: np.ndarray, first: np.ndarray) -> pa.Table:
    """A row for each key. there: the rows that have a hash; first: of each hash, the first that is alike."""
    copies = np.flatnonzero(first != np.arange(len(first)))
    original, distance = np.full(len(keys), -1), np.zeros(len(keys), np.int8)
    original[there[copies]] = there[first[copies]]
    distance[there[copies]] = np.bitwise_count(hashes[copies] ^ hashes[first[copies]])
    none, hashed = original < 0, np.zeros(len(keys), bool)
    hashed[there] = True
    return result_table(
        pa.schema(COLUMNS),
        keys=keys.combine_chunks(),
        values={
            "copy_of": keys.combine_chunks().take(pa.array(original, mask=none)),
            "distance": pa.array(distance, mask=none),
        },
        endings=[(SUCCESS, None) if known else (SKIPPED, NO_HASH) for known in hashed],
    )


def _slices(answers: pa.Table, shards: Sequence[_Shard]) -> Iterator[pa.Table]:
    start = 0
    for shard in shards:
        yield answers.slice(start, shard.table.num_rows)
        start += shard.table.num_rows


def _write(storage: Storage, fingerprint: Mapping[str, str], shard: _Shard, answers: pa.Table) -> None:
    info = SidecarInfo(stage=NAME, fingerprint=fingerprint, identity=shard.identity, rows=answers.num_rows)
    write_sidecar(storage, shard.name, answers.combine_chunks(), info)


def _fingerprint(config: DuplicatesConfig, hashes: np.ndarray) -> Mapping[str, str]:
    seen = hashlib.sha256(hashes.tobytes()).hexdigest()
    return {"stage": NAME, "version": "1", "hash": config.hash, "distance": str(config.distance), "seen": seen}
