"""Makes one shard from samples of other shards, and commits its files: tar, metadata, index, sidecars, stats."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import pyarrow as pa

from tarloom.create.config import CreateConfig, ImageOptions
from tarloom.create.repack.check import CarriedStage
from tarloom.create.repack.results import FIRST_SEEN, SIZES, Results
from tarloom.create.repack.rows import Group, GroupRows, GroupSlice, NewRows, Places, slices_in
from tarloom.create.repack.samples import Carried, Carrier, Members, read_samples, updated_json
from tarloom.create.repack.sidecars import write_carried
from tarloom.create.rows import EncodedPicture
from tarloom.create.shards.results import report_of
from tarloom.create.shards.shard_files import committing, result_columns
from tarloom.create.sources.columns import ERROR, KEY, error_of
from tarloom.create.sources.keys import BUILT_IN, shard_keys
from tarloom.create.tasks import PackTask, codec_threads
from tarloom.engines.base import Report
from tarloom.format.index import IndexBuilder, write_index
from tarloom.format.layout import metadata_name, tar_name
from tarloom.format.metadata import write_stats
from tarloom.format.parquet import write_table
from tarloom.format.storage import Storage, open_storage
from tarloom.format.tar.writer import TarWriter

Shards = list[tuple[str, str]]
"""Names and identities of a group's."""
OPENERS = 8
"""Shards opened at once: mostly waiting for storage."""


@dataclass(frozen=True, kw_only=True)
class RepackerDescription:
    """What a worker needs to repack. Travels to where the work runs; calling it opens the worker there."""

    config: CreateConfig
    schema: pa.Schema
    """Of the metadata."""
    source: Storage
    stages: Mapping[str, CarriedStage]
    """Whose sidecars are carried along."""
    samples_alone: bool = False
    """Of the metadata's rows only those of the samples that are taken."""

    def __call__(self) -> "Repacker":
        return Repacker(self)


class Repacker:
    """Makes shards, one at a time."""

    def __init__(self, description: RepackerDescription) -> None:
        self._description = description
        self._config = description.config
        self._storage = open_storage(self._config.output)
        self._digest = result_columns(self._config).digest
        self._carrier = Carrier(
            images=self._config.images,
            process=self._process(),
            digest=self._digest,
            by_content=self._config.lists.key_from == "content",
        )
        self._last_group: tuple[Shards, GroupRows] | None = None
        """Small shards made of a big one open it once."""

    def __call__(self, task: PackTask) -> Report:
        """Make one shard and commit its files. Raises ShardError, StorageError; UsageError where the source changed."""
        rows = NewRows(slices=tuple(self._slices(task.rows)))
        results = self._keyed(task, rows)
        index = IndexBuilder(task.shard)
        with ExitStack() as commit:
            with self._storage.create(tar_name(task.shard)) as file:
                tar = TarWriter(file)
                self._fill(tar, index, rows, results)
                tar.close()
                commit.enter_context(committing(self._storage, task.shard))
            return self._commit(task.shard, tar, index, rows, results)

    def _fill(self, tar: TarWriter, index: IndexBuilder, rows: NewRows, results: Results) -> None:
        """Write the samples, and note in the results what became of each."""
        for place, (old_key, carried) in enumerate(zip(rows.keys, self._carried(rows), strict=True)):
            if not results.note(place, carried):
                continue
            key = results.keys[place]
            for extension, data in _members(carried, old_key, key).items():
                offset = tar.add(f"{key}.{extension}", data)
                index.add(key, extension, offset, len(data))
                results.bytes += len(data)

    def _commit(self, shard: str, tar: TarWriter, index: IndexBuilder, rows: NewRows, results: Results) -> Report:
        """Write all that belongs to the tar, which is in its place; the stats last: with them the shard is done."""
        identity = f"sha256:{tar.sha256}"
        table = results.metadata(rows, self._digest)
        write_table(self._storage, metadata_name(shard), table)
        write_index(self._storage, index.finish(shard, tar.size, identity))
        write_carried(
            self._storage,
            shard,
            self._description.stages,
            slices=rows.slices,
            keys=results.written_keys(),
            identity=identity,
            changed=results.changed,
        )
        stats = results.stats(table, identity=identity, tar_size=tar.size)
        write_stats(self._storage, shard, stats)
        return report_of(shard, stats, bytes=results.bytes)

    def _slices(self, rows: pa.Table) -> list[GroupSlice]:
        """The task's samples, with the shards that they lie in opened side by side."""
        *wanted, (shards, samples) = slices_in(rows)
        with ThreadPoolExecutor(OPENERS, thread_name_prefix="open") as pool:
            last = pool.submit(self._opened, shards)
            found = list(pool.map(lambda part: self._cut(self._opened(part[0]), part[1]), wanted))
        self._last_group = shards, last.result()
        return [*found, self._cut(last.result(), samples)]

    def _opened(self, shards: Shards) -> GroupRows:
        if self._last_group is not None and self._last_group[0] == shards:
            return self._last_group[1]
        return GroupRows(Group(self._description.source, shards), self._description.schema)

    def _cut(self, rows: GroupRows, samples: Places) -> GroupSlice:
        return rows.alone(samples) if self._description.samples_alone else rows.following(samples)

    def _keyed(self, task: PackTask, rows: NewRows) -> Results:
        """The samples' keys, as far as they do not come from the bytes; those that have none have failed."""
        column = self._config.lists.key_from
        samples = rows.table.take(rows.places)
        source = samples.column("key" if column in BUILT_IN else column).cast(pa.string())
        urls = {"url": samples.column("url")} if "url" in samples.column_names else {}
        given = shard_keys(self._config, task.shard, task.first_row).given(pa.table({**urls, KEY: source}))
        keys = cast(list[str], given.column(KEY).to_pylist())
        texts = given.column(ERROR).to_pylist() if ERROR in given.column_names else []
        found = {place: error_of(text) for place, text in enumerate(texts)}
        return Results(keys=keys, errors={place: error for place, error in found.items() if error is not None})

    def _carried(self, rows: NewRows) -> Iterator[Carried]:
        """What becomes of each sample, in order. Pictures are worked on in threads."""
        digests = rows.known(self._digest)
        with ThreadPoolExecutor(codec_threads(), thread_name_prefix="codec") as pool:
            for samples in read_samples(rows.slices):
                known = list(islice(digests, len(samples)))
                yield from (pool.map if self._carrier.works else map)(self._carrier.carry, samples, known)

    def _process(self) -> Callable[[bytes, ImageOptions], EncodedPicture] | None:
        if self._config.images.disable_all_reencoding:
            return None
        from tarloom.create.pictures.images import process_picture  # Loads OpenCV: only where pictures are worked on.

        return process_picture


def _members(carried: Carried, old_key: str, key: str) -> Members:
    """The sample's members, its json up to date."""
    if "json" not in carried.members or (carried.picture is None and key == old_key):
        return carried.members
    known: dict[str, Any] = {"key": key}
    unknown: dict[str, Any] = {}
    if carried.picture is not None:
        known |= {name: getattr(carried.picture, name) for name in SIZES}
        unknown = {name: getattr(carried.picture, name) for name in FIRST_SEEN}
    return carried.members | {"json": updated_json(carried.members["json"], old_key, known, unknown)}
