"""Makes a sound copy of a dataset, or of one tar, and says of each shard what was done. The source is not touched.

Every shard is gone over twice: its headers say what can be saved (inventory.py), then the bytes are copied in the order
of the copy. What lies beside it comes along (beside.py). A shard's tar appears last; a run that is started again skips
those whose tar is there and whose source, with all that lies beside it, has not changed since.
"""

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Collection, Container, Iterable, Iterator
from dataclasses import dataclass

from tarloom.errors import CorruptShard, UsageError
from tarloom.format.index import HeadersHash, IndexBuilder, ShardIndex, write_index
from tarloom.format.index_load import tar_reader, versioned
from tarloom.format.layout import (
    PRIVATE,
    TAR_SUFFIXES,
    compression_of,
    describe_lack,
    find_tars,
    finished_without_tar,
    index_name,
    is_shard_file,
    metadata_name,
    shard_of,
    sidecar_name,
    stats_name,
    tar_name,
)
from tarloom.format.repair.beside import Beside
from tarloom.format.repair.inventory import Inventory, Place, reason_of, take_inventory
from tarloom.format.sidecar import find_sidecars, sidecar_info
from tarloom.format.storage import Entry, LocalStorage, Storage, links_to_nothing, open_dataset_storage, open_storage
from tarloom.format.storage.writable import check_writable
from tarloom.format.tar.block import BLOCK
from tarloom.format.tar.compressed import CHUNK_BYTES, Unpacked, proves_what_came_out
from tarloom.format.tar.headers import Member
from tarloom.format.tar.writer import TarWriter

_MARK = f"{PRIVATE}/repair.json"
"""Says what an output is a copy of."""
_REPORTS = f"{PRIVATE}/repair/"
_INDEXES = index_name("").removesuffix(".parquet")
_ENDINGS = (tar_name(""), stats_name(""), ".json", ".parquet")
_BATCH_BYTES = 16 << 20
_BATCH_MEMBERS = 4096
"""Members are copied in batches of so much, or one by one if they are larger."""


@dataclass(frozen=True, kw_only=True)
class RepairReport:
    """What became of one shard."""

    shard: str
    samples: int
    bytes: int
    """Of the new tar; 0 where nothing could be saved and none was written."""
    done: tuple[str, ...] = ()
    """What was found and mended, one line a kind."""
    lost: tuple[str, ...] = ()
    """What could not be saved, likewise."""
    skipped: bool = False
    """An earlier run did it."""


class RepairJob:
    """Iterate over it: one report a shard. Raises UsageError before anything is written.

    keep_unproven: keep what comes out of a compressed stream that is damaged, though any byte of it may be wrong.
    """

    def __init__(self, path: str, output: str, *, keep_unproven: bool = False) -> None:
        self._keep_unproven = keep_unproven
        self._source, tar = open_dataset_storage(path)
        if output.endswith(TAR_SUFFIXES):
            raise UsageError(f"output {output}: give a folder; the copy is called as its source is")
        self._output = open_storage(output)
        entries = {entry.name: entry for entry in self._source.list()}
        shards = find_tars(entries, self._source.url)
        self._tars = {shard: entries[name] for shard, name in shards.items() if tar in (None, name)}
        links = {} if tar else {shard_of(name): name for name in links_to_nothing(self._source, is_shard_file)}
        if not self._tars and not links:
            raise UsageError(f"{path}: {describe_lack(entries, tar)}")
        finished = finished_without_tar(entries) if tar is None else ()
        self._gone = {shard: tar_name(shard) for shard in finished} | links
        self._entries = entries
        self._stages = find_sidecars(entries)
        self._check_output()

    def __iter__(self) -> Iterator[RepairReport]:
        self._output.sweep()
        for shard in sorted(self._tars):
            tar = versioned(self._source, self._tars[shard])
            yield self._earlier(shard, tar) or self._repaired(shard, tar)
        for shard, name in sorted(self._gone.items()):
            if self._output.head(tar_name(shard)) is None:  # an earlier run may have copied it
                why = f"{name} is gone; run its creation again, or bring it back, and repair again"
                yield RepairReport(shard=shard, samples=0, bytes=0, lost=(why,))

    def _check_output(self) -> None:
        """Never in place, and never over what is not of a run with this source."""
        if self._output.lies_in(self._source) or self._source.lies_in(self._output):
            raise UsageError(f"output {self._output.url}: lies in the source or around it; choose another folder")
        check_writable(self._output)
        mark = json.dumps({"source": self._source.url}).encode()
        names = sorted(entry.name for entry in self._output.list())
        self._left = _by_shard(names, self._tars)
        foreign = next(iter(names), None)
        if foreign is not None and (self._output.head(_MARK) is None or self._output.read(_MARK) != mark):
            raise UsageError(f"output {self._output.url}: holds {foreign}, of no such repair; choose an empty folder")
        if foreign is None:
            self._output.write(_MARK, mark)

    def _earlier(self, shard: str, tar: Entry) -> RepairReport | None:
        """What an earlier run reported of this version of a shard, if its tar is there."""
        if self._output.head(tar_name(shard)) is None or self._output.head(_report_name(shard)) is None:
            return None
        found = json.loads(self._output.read(_report_name(shard)))
        version = self._version(shard, tar)
        if found["source"] not in (version, version[0]):  # earlier versions of tarloom noted the tar alone
            return None
        return RepairReport(**found["report"] | {"skipped": True})

    def _version(self, shard: str, tar: Entry) -> list[list[object]]:
        """What tells the files of a shard, as they are, from those of another time."""
        sidecars = (sidecar_name(shard, stage) for stage in self._stages.get(shard, ()))
        names = (metadata_name(shard), stats_name(shard), *sidecars)
        beside = [versioned(self._source, self._entries[name]) for name in names if name in self._entries]
        return [[entry.name, entry.size, entry.etag] for entry in (tar, *beside)]

    def _clear(self, shard: str, made_here: Collection[str]) -> None:
        """Remove what an earlier run made of another version of a shard, or did not end with: its tar first.

        made_here: stages that were run on the copy. Their sidecars stay: they fit again where the tar comes out as it
        was, and else are stale.
        """
        kept = {sidecar_name(shard, stage) for stage in made_here}
        for name in sorted(self._left.get(shard, ()), key=lambda name: name != tar_name(shard)):
            if name not in kept:
                self._output.delete(name)

    def _made_here(self, shard: str) -> frozenset[str]:
        """The stages that were run on the copy of a shard: repair marks the sidecars that it brings as carried."""
        stages = find_sidecars({tar_name(shard), *self._left.get(shard, ())}).get(shard, ())
        found = set()
        for stage in stages:
            with contextlib.suppress(CorruptShard):  # what is no sidecar, nobody can use
                info = sidecar_info(self._output, shard, stage)
                found |= {stage} if info is not None and info.carried is None else set()
        return frozenset(found)

    def _repaired(self, shard: str, tar: Entry) -> RepairReport:
        made_here = self._made_here(shard)
        self._clear(shard, made_here)
        version = self._version(shard, tar)
        with contextlib.ExitStack() as stack:
            storage, plain, unsound = stack.enter_context(_as_plain(self._source, tar))
            inventory = take_inventory(storage, plain, tar_reader(storage, plain))
            if unsound is not None:
                self._note_unsound(inventory, unsound, reason_of(unsound, self._source.describe(tar.name)))
            if not inventory.samples and inventory.lost:
                return _report(shard, inventory, size=0)
            beside = Beside(
                source=self._source,
                output=self._output,
                shard=shard,
                names=self._entries.keys(),
                stages=[stage for stage in self._stages.get(shard, ()) if stage not in made_here],
            )
            with self._output.create(tar_name(shard)) as file:
                writer = TarWriter(file)
                index = _copy(storage, plain.name, inventory, writer, shard)
                index = beside.carry(index, writer.sha256, inventory)
                write_index(self._output, index)
                report = _report(shard, inventory, size=writer.size)
                facts = {"source": version, "report": dataclasses.asdict(report)}
                self._output.write(_report_name(shard), json.dumps(facts, indent=2).encode())
            return report

    def _note_unsound(self, inventory: Inventory, error: CorruptShard, reason: str) -> None:
        """What an error of its compressed stream means for what came out before."""
        inventory.note("compressed streams that are cut or damaged", reason, lost=True)
        unproven = [] if proves_what_came_out(error) else [*inventory.samples]
        if unproven and self._keep_unproven:
            what = "samples kept that may have other bytes, as no check sum proves them"
        else:
            what = "samples left out that no check sum proves (--keep-unproven keeps them)"
            inventory.drop(unproven)
        if unproven:
            inventory.note(what, repr(unproven[0]), lost=True, count=len(unproven))


@contextlib.contextmanager
def _as_plain(storage: Storage, tar: Entry) -> Iterator[tuple[Storage, Entry, CorruptShard | None]]:
    """A tar that can be read anywhere: itself or, where it is compressed, a temporary of all that comes out of it.

    And what ended it, if that is not all.
    """
    if compression_of(tar.name) is None:
        yield storage, tar, None
        return
    with tempfile.TemporaryDirectory(prefix="tarloom-") as folder:
        temporary, name, size = LocalStorage(folder), tar_name("unpacked"), 0
        unsound: CorruptShard | None = None
        with temporary.create(name) as file:
            for step in (CHUNK_BYTES, BLOCK):  # where a big step fails, small ones come closer to the damage
                try:
                    unpacked = Unpacked(storage, tar, chunk_bytes=step)
                    while chunk := unpacked(size, step):
                        size += file.write(chunk)
                    break
                except CorruptShard as error:
                    unsound = error
        yield temporary, Entry(name=name, size=size), unsound


def _copy(storage: Storage, tar: str, inventory: Inventory, writer: TarWriter, shard: str) -> ShardIndex:
    """Write all samples; the index of the new tar."""
    builder, headers = IndexBuilder(tar_name(shard)), HeadersHash()
    for batch in _batches(inventory):
        places = [place for _, _, place in batch]
        found = storage.read_ranges(tar, [place.offset for place in places], [place.size for place in places])
        for (key, extension, place), data in zip(batch, found, strict=True):
            offset = writer.add(f"{key}.{extension}", data)
            headers.add(Member(f"{key}.{extension}", offset, place.size))
            builder.add(key, extension, offset, place.size)
    writer.close()
    return builder.finish(shard, writer.size, headers.identity)


def _batches(inventory: Inventory) -> Iterator[list[tuple[str, str, Place]]]:
    """All members in the order of the new tar, in parts that fit the memory."""
    batch: list[tuple[str, str, Place]] = []
    size = 0
    for key, members in inventory.samples.items():
        for extension, place in members.items():
            if batch and (size + place.size > _BATCH_BYTES or len(batch) == _BATCH_MEMBERS):
                yield batch
                batch, size = [], 0
            batch.append((key, extension, place))
            size += place.size
    if batch:
        yield batch


def _report(shard: str, inventory: Inventory, *, size: int) -> RepairReport:
    lines = dict(zip(inventory.found, inventory.lines(), strict=True))
    return RepairReport(
        shard=shard,
        samples=len(inventory.samples),
        bytes=size,
        done=tuple(line for what, line in lines.items() if what not in inventory.lost),
        lost=tuple(line for what, line in lines.items() if what in inventory.lost),
    )


def _by_shard(names: Iterable[str], shards: Container[str]) -> dict[str, list[str]]:
    """The files of a copy, by the shards that they belong to."""
    found: dict[str, list[str]] = {}
    for name in names:
        stem = name.removeprefix(_INDEXES).removeprefix(_REPORTS)
        ending = next((ending for ending in _ENDINGS if stem.endswith(ending)), "")
        stem = stem.removesuffix(ending)
        shard = stem if stem in shards else stem.rpartition(".")[0]
        if shard in shards:
            found.setdefault(shard, []).append(name)
    return found


def _report_name(shard: str) -> str:
    return f"{_REPORTS}{shard}.json"
