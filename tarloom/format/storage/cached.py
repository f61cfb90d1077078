"""Files of an object store, kept on this machine as far as there is room: for data that is read again and again.

What is kept are whole parts of half a MiB. A part's name says of which version of which file it is, by address, size
and ETag, so that an old one is never taken for a new one; it is asked for by that ETag, too. Parts are committed as all
files are: whole, synced, renamed. Any number of processes may share a folder: of those that want the same part one
fetches it, and the others wait for it. Parts that were not used for the longest time are deleted to make room.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from tarloom.errors import StorageError, UsageError
from tarloom.format.memory import allocate
from tarloom.format.storage.base import Entry, RangeSource, Storage, Survey, cut_short
from tarloom.format.storage.local import LocalStorage
from tarloom.format.storage.objects import ObjectStorage
from tarloom.format.storage.packing import cut_from_pack
from tarloom.format.storage.ranges import Ranges
from tarloom.format.storage.scatter import EndsBefore, scatter

PART_BYTES = 512 << 10
"""As large as the blocks of a feed: of larger parts, much would be fetched that is not wanted before it is deleted."""
REGION_PARTS = 8
"""Of neighbouring parts, one process fetches what is missing, and the others wait."""
LEAST_BYTES = 64 << 20
"""A cache is at least so large: smaller ones would lose what they have just fetched."""
FREED = 0.1
"""Of the room, at least, when some is made: parts are listed for it."""
LOCKS = 256
"""Regions share them."""
_PARTS, _USED = "parts", "used"

_WARNED: set[tuple[str, str, int | None]] = set()
"""Folders and why they are of no use, in this process."""

_log = logging.getLogger(__name__)


def cached(storage: Storage, folder: str | Path, limit: int) -> Storage:
    """The storage, which keeps what is read of files in a folder of at most `limit` bytes; as it is, where it is local.

    Raises UsageError for a limit that is too small, StorageError for a folder that cannot be written.
    """
    if limit < LEAST_BYTES:
        raise UsageError(f"{folder}: a cache of {limit} bytes is too small; give it at least {LEAST_BYTES}")
    if not isinstance(storage, ObjectStorage):
        return storage
    place = str(Path(folder).expanduser().absolute())
    with Parts(place, limit).locked(""):  # proves that the folder can be written
        return CachedStorage(storage.url, storage, place, limit)


@dataclass(frozen=True)
class CachedStorage(Storage):
    """An object storage; `ranges_of` reads through the folder, all else as it does."""

    url: str
    storage: ObjectStorage
    folder: str
    limit: int

    def ranges_of(self, entry: Entry) -> RangeSource:
        return CachedFile(self.storage, entry, Parts(self.folder, self.limit))

    def list(self, prefix: str = "") -> Iterator[Entry]:
        return self.storage.list(prefix)

    def survey(self, wanted: Callable[[str], bool], known: Callable[[], Sequence[str]] = tuple) -> Survey:
        return self.storage.survey(wanted, known)

    def head(self, name: str) -> Entry | None:
        return self.storage.head(name)

    def read(self, name: str) -> bytes:
        return self.storage.read(name)

    def read_end(self, name: str, size: int) -> tuple[memoryview, int] | None:
        return self.storage.read_end(name, size)

    def read_ranges(self, name: str, offsets: Sequence[int], sizes: Sequence[int]) -> Sequence[memoryview]:
        return self.storage.read_ranges(name, offsets, sizes)

    def read_packed(self, name: str, groups: Sequence[Ranges]) -> Sequence[pa.Buffer]:
        return self.storage.read_packed(name, groups)

    def create(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        return self.storage.create(name)

    def write_new(self, name: str, data: bytes) -> bool:
        return self.storage.write_new(name, data)

    def delete(self, name: str) -> None:
        self.storage.delete(name)

    def write_unsynced(self, name: str, data: bytes) -> None:
        self.storage.write_unsynced(name, data)

    def delete_folder(self, prefix: str) -> None:
        self.storage.delete_folder(prefix)

    def sweep(self) -> int:
        return self.storage.sweep()


class CachedFile(RangeSource):
    """Byte ranges of one version of a file, by whole parts of it."""

    def __init__(self, storage: ObjectStorage, entry: Entry, parts: "Parts") -> None:
        self._storage, self._entry, self._parts = storage, entry, parts
        self._where = storage.describe(entry.name)
        version = f"{self._where}\n{entry.size}\n{entry.version}"
        self._key = hashlib.blake2b(version.encode(), digest_size=16).hexdigest()

    def read_ranges(self, name: str, offsets: Sequence[int], sizes: Sequence[int]) -> Sequence[memoryview]:
        return cut_from_pack(self, name, offsets, sizes)

    def read_packed(self, name: str, groups: Sequence[Ranges]) -> Sequence[pa.Buffer]:
        buffers = [allocate(int(group.sizes.sum())) for group in groups]
        places = [buffer.address + group.places for buffer, group in zip(buffers, groups, strict=True)]
        ranges = Ranges.joined(groups)
        if (ranges.ends > self._entry.size).any():
            raise cut_short(self._where)
        wanted = _by_part(ranges, np.concatenate([np.zeros(0, np.int64), *places]))
        regions = np.array([part.number // REGION_PARTS for part in wanted], np.int64)
        for region in np.unique(regions).tolist():
            self._fill(region, [wanted[i] for i in np.flatnonzero(regions == region).tolist()])
        return buffers

    def _fill(self, region: int, wanted: "Sequence[_Part]") -> None:
        """Copy from parts of one region, those that are missing fetched first."""
        missing = [part for part in wanted if not self._copied(part)]
        if missing:
            with self._parts.locked_if_possible(f"{self._key}-{region}"):
                missing = [part for part in missing if not self._copied(part)]  # another may have fetched some by now
                for run in _runs(missing):
                    self._fetch(run)

    def _copied(self, part: "_Part") -> bool:
        return self._parts.copied(self._name(part.number), self._size(part.number), part.ranges, part.addresses)

    def _fetch(self, run: "Sequence[_Part]") -> None:
        """Parts that follow each other, in one request."""
        first = run[0].number * PART_BYTES
        data = self._storage.read_part(self._entry, first, sum(self._size(part.number) for part in run))
        for i, part in enumerate(run):
            mine = data[i * PART_BYTES :][:PART_BYTES]
            self._parts.keep(self._name(part.number), mine)
            begin = np.frombuffer(mine, np.uint8).ctypes.data
            places = zip(part.ranges.offsets.tolist(), part.ranges.sizes.tolist(), part.addresses.tolist(), strict=True)
            for offset, length, address in places:
                ctypes.memmove(address, begin + offset, length)

    def _name(self, number: int) -> str:
        return f"{_PARTS}/{self._key[:2]}/{self._key}-{number}"

    def _size(self, number: int) -> int:
        return min(PART_BYTES, self._entry.size - number * PART_BYTES)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What is wanted of a part."""

    number: int
    ranges: Ranges
    """Counted from where it begins."""
    addresses: np.ndarray
    """Where they are to be copied."""


class Parts:
    """A folder of parts, whose sizes together stay below a limit."""

    def __init__(self, folder: str, limit: int) -> None:
        self._folder, self._limit = LocalStorage(folder), limit

    def copied(self, name: str, size: int, ranges: Ranges, addresses: np.ndarray) -> bool:
        """Copy ranges of a part of this size; False where it is not there, or cannot be read."""
        path = self._folder.describe(name)
        try:
            with _translated(path), contextlib.suppress(FileNotFoundError), open(path, "rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size == size:
                    with contextlib.suppress(OSError):  # where nothing can be written, no room is made either
                        os.utime(file.fileno())
                    scatter(file.fileno(), ranges, addresses)
                    return True
        except StorageError as error:
            self._warn(error, "what cannot be read of the cache is fetched anew")
        return False

    def keep(self, name: str, data: memoryview) -> None:
        """Make room for a part, and commit it. Where that fails it is said, and the part is not kept."""
        try:
            with self._locked(_USED):
                self._count(self._with_room(self._counted(), len(data)) + len(data))
            self._folder.write(name, bytes(data))
        except StorageError as error:
            self._warn(error, "what was read is not kept")

    @contextlib.contextmanager
    def locked_if_possible(self, name: str) -> Iterator[None]:
        """As locked; where that fails it is said, and what others fetch at the same time is fetched here, too."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.locked(name))
            except StorageError as error:
                self._warn(error, "what other processes fetch, too, is fetched again")
            yield

    def locked(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Alone with what is called so, of all threads and processes; other things may share its lock."""
        return self._locked(f"{zlib.crc32(name.encode()) % LOCKS:02x}")

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        path = Path(self._folder.url, "locks", name)
        with _translated(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "ab")  # noqa: SIM115
        with file:
            with _translated(str(path)):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _warn(self, error: StorageError, so: str) -> None:
        """Once for each reason, as parts are many."""
        reason = (self._folder.url, so, getattr(error.__cause__, "errno", None))
        if reason not in _WARNED:
            _WARNED.add(reason)
            _log.warning("%s; %s", error, so)

    def _counted(self) -> int:
        """Bytes in use. More are counted where a process was killed, until room is made the next time."""
        path = Path(self._folder.url, _USED)
        with _translated(str(path)), contextlib.suppress(FileNotFoundError, ValueError):
            return int(path.read_bytes())  # a disk without room leaves an empty file, which is no number
        return sum(entry.size for entry in self._folder.list(_PARTS))

    def _count(self, used: int) -> None:
        path = Path(self._folder.url, _USED)
        with _translated(str(path)), open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), "wb", buffering=0) as file:
            file.write(b"%020d" % used)

    def _with_room(self, used: int, size: int) -> int:
        """Bytes in use, when there is room for so many more."""
        if used + size <= self._limit:
            return used
        self._folder.sweep()
        entries = sorted(self._folder.list(_PARTS), key=lambda entry: entry.mtime_ns or 0)
        used, wanted = sum(entry.size for entry in entries), int(self._limit * (1 - FREED)) - size
        for entry in entries:
            if used <= wanted:
                break
            self._folder.delete(entry.name)
            used -= entry.size
        return used


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    """What happens to a file of the cache as StorageError."""
    try:
        yield
    except (OSError, EndsBefore) as error:
        reason = getattr(error, "strerror", None) or "it was cut short"
        raise StorageError(f"{path}: {reason}; check the disk, or give the cache another folder") from error


def _by_part(ranges: Ranges, addresses: np.ndarray) -> list[_Part]:
    """Ranges cut where parts end; parts in their order."""
    firsts = ranges.offsets // PART_BYTES
    counts = np.where(ranges.sizes > 0, (ranges.ends - 1) // PART_BYTES - firsts + 1, 0)
    of = np.repeat(np.arange(len(ranges)), counts)
    numbers = firsts[of] + np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.maximum(ranges.offsets[of], numbers * PART_BYTES)
    ends = np.minimum(ranges.ends[of], (numbers + 1) * PART_BYTES)
    places = Ranges(offsets=starts - numbers * PART_BYTES, sizes=ends - starts)
    addresses = addresses[of] + (starts - ranges.offsets[of])
    order = np.argsort(numbers, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else []
    return [_Part(number=int(numbers[i[0]]), ranges=places.take(i), addresses=addresses[i]) for i in groups]


def _runs(parts: Sequence[_Part]) -> list[Sequence[_Part]]:
    """Parts that follow each other, together."""
    ends = [i for i in range(1, len(parts)) if parts[i].number != parts[i - 1].number + 1]
    return [parts[first:last] for first, last in pairwise([0, *ends, len(parts)]) if first < last]
