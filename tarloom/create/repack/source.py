"""Shards as a source: the samples of all tars, in the order of the shards' names and of each tar, to be cut anew.

    rows        one a sample. A row of the metadata that has none, since it failed, travels with the sample in front of
                it, so that new shards are even and every row stays accounted for
    members     are carried over byte by byte, all but the picture where resizing is asked for
    metadata    is carried over with all its columns
    sidecars    are cut as the samples are; a stale one is refused

Planning looks at every shard's index and footers, never at its samples. Workers open the shards that they need.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tarloom.create.config import CreateConfig
from tarloom.create.repack.check import (
    CarriedStage,
    check_key_column,
    check_none_is_lost,
    check_not_overwritten,
    check_repacking,
    check_same_stage,
    find_duplicate,
    tell_of_unfinished,
)
from tarloom.create.shards.shard_files import result_columns
from tarloom.create.sources.inputs import InputFile
from tarloom.create.sources.web_file import WebFile
from tarloom.errors import ShardError, UsageError
from tarloom.format.ahead import THREADS, ahead
from tarloom.format.index import ShardIndex
from tarloom.format.index_load import load_index
from tarloom.format.layout import (
    NAMES_OF_READERS,
    PLAN,
    compression_of,
    is_shard_file,
    is_utf8,
    metadata_name,
    shard_of,
    sidecar_name,
    stats_name,
)
from tarloom.format.parquet import read_schema
from tarloom.format.retyped import roomy, unified
from tarloom.format.sidecar import CHANGED, check_fresh, find_sidecars, sidecar_info
from tarloom.format.storage import Entry, Storage

TABLE_ROWS = 8192
SHARDS = "shards"
SAMPLE = "sample"
"""The columns of the source's tables: the shards of the sample's group, as the JSON that `group_text` makes, and its
number in the group."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What planning remembers of a shard."""

    name: str
    identity: str
    samples: int
    has_metadata: bool
    version: str
    """Changes with the tar, the metadata and the sidecars."""
    keys: npt.NDArray[np.int64]
    """A hash of each, where they are kept: to find those that come twice. (The keys themselves take ten times that.)"""


class TarShards:
    """Rows are samples of shards that are there. Raises UsageError or ShardError for what cannot be repacked."""

    def __init__(self, files: Sequence[InputFile], config: CreateConfig, *, is_folder: bool) -> None:
        check_repacking(config)
        self.storage: Storage = files[0].storage
        self._config = config
        if isinstance(self.storage, WebFile):
            raise UsageError(f"source {config.source}: shards are not read from web servers; copy the file here first")
        chosen = [file for file in files if is_shard_file(file.entry.name)]
        if any(file.storage != self.storage for file in chosen):
            raise UsageError(f"source {config.source}: tars in several folders; give the folder above them")
        entries = [file.entry for file in files] if is_folder else list(self.storage.list())
        self._entries = {entry.name: entry for entry in entries}
        self._tars = self._finished(file.entry for file in chosen)
        if is_folder:
            check_none_is_lost(config.source, self.storage, self._entries.keys())
        if is_folder and PLAN in self._entries:
            tell_of_unfinished(self.storage, self._entries.keys())
        self._columns: list[pa.Schema] = []
        self.stages: dict[str, CarriedStage] = {}
        """Those that any shard has a sidecar of. Known once the shards have been looked at."""

    @property
    def has_captions(self) -> bool:
        return "caption" in self._metadata_schema.names

    def fingerprint(self) -> str:
        """A digest of the identity of every tar, and of the versions of what lies beside it."""
        hasher = hashlib.sha256()
        for shard in self._shards:
            hasher.update(json.dumps([shard.identity, shard.version]).encode())
        return f"sha256:{hasher.hexdigest()}"

    def scan(self) -> tuple[int, pa.Schema]:
        """The number of samples, and the metadata's columns beside those that every creation makes.

        Raises UsageError where two samples would have one key, and where keys are to come from a column that is not
        there.
        """
        check_key_column(self._config.lists.key_from, readable(self._metadata_schema))
        if self._config.lists.key_from == "row":
            self._check_keys()
        return sum(len(self._samples(shard)) for shard in self._shards), self._additional()

    def tables(self, additional: pa.Schema, start: int) -> Iterator[pa.Table]:
        """The samples from number `start`, as the columns SHARDS and SAMPLE."""
        for group in self._groups():
            samples = np.concatenate([self._samples(shard) for shard in group])
            text = group_text([(shard.name, shard.identity) for shard in group])
            for first in range(start, len(samples), TABLE_ROWS):
                numbers = samples[first : first + TABLE_ROWS]
                places = np.zeros(len(numbers), np.int32)
                names = pa.DictionaryArray.from_arrays(places, pa.array([text]))
                yield pa.table({SHARDS: names, SAMPLE: numbers})
            start = max(0, start - len(samples))

    def _samples(self, shard: Shard) -> npt.NDArray[np.int64]:
        """The numbers of the shard's samples that are taken, ascending."""
        return np.arange(shard.samples)

    def _additional(self) -> pa.Schema:
        own = {"caption", "url", *result_columns(self._config).names}
        return pa.schema([field for field in readable(self._metadata_schema) if field.name not in own])

    def _groups(self) -> Iterator[list[Shard]]:
        """Each shard that has samples; with it those in front that have but failed rows, and behind the last one."""
        group: list[Shard] = []
        last = max((i for i, shard in enumerate(self._shards) if shard.samples), default=0)
        for i, shard in enumerate(self._shards):
            if shard.samples or shard.has_metadata:
                group.append(shard)
            if shard.samples and i < last:
                yield group
                group = []
        yield group

    def _check_keys(self) -> None:
        def keys_of(number: int) -> list[str]:
            shard = self._shards[number]
            index = load_index(self.storage, shard.name, self._tars[number], identity=shard.identity)
            return cast(list[str], index.keys.take(self._samples(shard)).to_pylist())

        found = find_duplicate([shard.keys[self._samples(shard)] for shard in self._shards], keys_of)
        if found is not None:
            key, one, other = found
            raise UsageError(
                f"source {self.storage.url}: {self._tars[one].name} and {self._tars[other].name} both have a sample "
                f"{key!r}; give new keys with key_from (shard, url, content or a column)"
            )

    def _finished(self, tars: Iterable[Entry]) -> list[Entry]:
        """In a folder with a plan only shards with their commit mark are taken, as readers do."""
        found, unfinished = [], 0
        for tar in tars:
            if PLAN not in self._entries or stats_name(shard_of(tar.name)) in self._entries:
                found.append(tar)
            else:
                unfinished += 1
        unnameable = next((tar.name for tar in found if not is_utf8(tar.name)), None)
        if unnameable is not None:
            raise UsageError(f"{self.storage.url}: the name of the shard {unnameable!r} is not UTF-8; rename its files")
        compressed = next((tar.name for tar in found if compression_of(tar.name)), None)
        if compressed is not None:
            remedy = "make plain tars of it first, with: tarloom repair"
            raise UsageError(f"source {self._config.source}: {compressed} is compressed; {remedy}")
        if not found:
            what = "no finished shard in it; finish its creation first" if unfinished else "no shard (.tar) in it"
            raise UsageError(f"source {self._config.source}: {what}")
        return sorted(found, key=lambda tar: shard_of(tar.name))

    @cached_property
    def _shards(self) -> list[Shard]:
        """All of them, each looked at once; what must be the same in all is compared."""
        sidecars = find_sidecars(self._entries)
        looks = ahead(
            lambda tar: self._look(tar, sidecars.get(shard_of(tar.name), ())), self._tars, threads=THREADS, each=4
        )
        return [self._taken(*look) for look in looks]

    def _look(self, tar: Entry, stages: Sequence[str]) -> tuple[Shard, pa.Schema | None, dict[str, CarriedStage]]:
        """What a shard's index and footers say. Raises ShardError, StaleSidecar among them."""
        index = load_index(self.storage, shard_of(tar.name), tar, has_sidecars=bool(stages))
        check_not_overwritten(index, self._config.images, self.storage.describe(tar.name))
        name = metadata_name(index.shard)
        schema = read_schema(self.storage, name) if name in self._entries else None
        if schema is not None and not {"key", "status"} <= set(schema.names):
            schema = None
        beside = [name, *(sidecar_name(index.shard, stage) for stage in stages)]
        keys = index.keys.to_pylist() if self._config.lists.key_from == "row" else []
        shard = Shard(
            name=index.shard,
            identity=index.identity,
            samples=index.rows,
            has_metadata=schema is not None,
            version=json.dumps([self._version(name) for name in beside if name in self._entries]),
            keys=np.fromiter(map(hash, keys), np.int64, len(keys)),
        )
        return shard, schema, {stage: self._look_beside(index, stage) for stage in stages}

    def _look_beside(self, index: ShardIndex, stage: str) -> CarriedStage:
        name = sidecar_name(index.shard, stage)
        where = self.storage.describe(name)
        info = sidecar_info(self.storage, index.shard, stage)
        if info is None:
            raise ShardError(f"{where}: has gone; leave the source alone while it is read")
        check_fresh(info, index, where)
        schema = read_schema(self.storage, name)
        return CarriedStage(fingerprint=info.fingerprint, schema=schema, shard=index.shard, carried=info.carried)

    def _taken(self, shard: Shard, schema: pa.Schema | None, stages: Mapping[str, CarriedStage]) -> Shard:
        if schema is not None and schema not in self._columns:
            self._columns.append(schema)
        for name, stage in stages.items():
            check_same_stage(name, self.stages.setdefault(name, stage), stage, self.storage)
            if stage.carried == CHANGED:
                self.stages[name] = stage
        return shard

    def _version(self, name: str) -> tuple[int, str | int | None]:
        """A file's size, and what tells it from another one of that size."""
        file = InputFile(storage=self.storage, entry=self._entries[name])
        return file.entry.size, file.version

    @cached_property
    def _metadata_schema(self) -> pa.Schema:
        """All columns of all metadata, each with the type that fits all shards."""
        assert self._shards, "there are shards, and looking at them finds the columns"
        try:
            return reduce(unified, map(roomy, self._columns), pa.schema([]))
        except pa.ArrowException as error:
            where = self.storage.url
            raise UsageError(
                f"source {where}: a metadata column has types that do not fit together ({error})"
            ) from error


def readable(columns: pa.Schema) -> pa.Schema:
    """Those that are not called as what readers give a sample themselves: readers leave these out, too."""
    return pa.schema([field for field in columns if field.name not in NAMES_OF_READERS])


def group_text(shards: Sequence[tuple[str, str]]) -> str:
    """Names and identities of the shards whose rows are counted together, of which at most one has samples."""
    return json.dumps(shards)


def group_shards(text: str) -> list[tuple[str, str]]:
    """What `group_text` was given."""
    return [(name, identity) for name, identity in json.loads(text)]
