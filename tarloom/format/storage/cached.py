"""Files of an object store, kept on this machine as far as there is room: for data that is read again and again.

What is kept are whole parts of some MiB. A part's name says of which version of which file it is, by address, size and
ETag, so that an old one is never taken for a new one; it is asked for by that ETag, too. Parts are committed as all
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

PART_BYTES = 4 << 20
LEAST_BYTES = 64 << 20
"""A cache is at least so large: smaller ones would lose what they have just fetched."""
FREED = 0.1
"""Of the room, at least, when some is made: parts are listed for it."""
LOCKS = 256
"""Parts share them."""
_PARTS, _USED = "parts", "used"

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
        numbers, pieces, addresses = _by_part(ranges, np.concatenate([np.zeros(0, np.int64), *places]))
        for number in np.unique(numbers).tolist():
            mine = numbers == number
            self._fill(number, pieces.take(mine), addresses[mine])
        return buffers

    def _fill(self, number: int, ranges: Ranges, addresses: np.ndarray) -> None:
        """Copy ranges of a part, counted from where it begins, to their addresses."""
        first = number * PART_BYTES
        size, name = min(PART_BYTES, self._entry.size - first), f"{_PARTS}/{self._key[:2]}/{self._key}-{number}"
        if self._parts.copied(name, size, ranges, addresses):
            return
        with self._parts.locked(name):
            if self._parts.copied(name, size, ranges, addresses):  # by now: another has fetched it
                return
            data = self._storage.read_part(self._entry, first, size)
            self._parts.keep(name, data)
        begin = np.frombuffer(data, np.uint8).ctypes.data
        for offset, length, address in zip(
            ranges.offsets.tolist(), ranges.sizes.tolist(), addresses.tolist(), strict=True
        ):
            ctypes.memmove(address, begin + offset, length)


class Parts:
    """A folder of parts, whose sizes together stay below a limit."""

    def __init__(self, folder: str, limit: int) -> None:
        self._folder, self._limit = LocalStorage(folder), limit

    def copied(self, name: str, size: int, ranges: Ranges, addresses: np.ndarray) -> bool:
        """Copy ranges of a part of this size; False where it is not there."""
        path = self._folder.describe(name)
        with _translated(path), contextlib.suppress(FileNotFoundError), open(path, "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size == size:
                os.utime(file.fileno())
                scatter(file.fileno(), ranges, addresses)
                return True
        return False

    def keep(self, name: str, data: memoryview) -> None:
        """Make room for a part, and commit it. Where that fails it is said, and the part is not kept."""
        try:
            with self._locked(_USED):
                self._count(self._with_room(self._counted(), len(data)) + len(data))
            self._folder.write(name, bytes(data))
        except StorageError as error:
            _log.warning("%s; what was read is not kept", error)

    def locked(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Alone with a part, of all threads and processes; other parts may share its lock."""
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

    def _counted(self) -> int:
        """Bytes in use. More are counted where a process was killed, until room is made the next time."""
        path = Path(self._folder.url, _USED)
        with _translated(str(path)):
            return int(path.read_bytes()) if path.exists() else sum(e.size for e in self._folder.list(_PARTS))

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


def _by_part(ranges: Ranges, addresses: np.ndarray) -> tuple[np.ndarray, Ranges, np.ndarray]:
    """Ranges cut where parts end: the numbers of their parts, their places in these, and their addresses."""
    firsts = ranges.offsets // PART_BYTES
    counts = np.where(ranges.sizes > 0, (ranges.ends - 1) // PART_BYTES - firsts + 1, 0)
    of = np.repeat(np.arange(len(ranges)), counts)
    numbers = firsts[of] + np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.maximum(ranges.offsets[of], numbers * PART_BYTES)
    ends = np.minimum(ranges.ends[of], (numbers + 1) * PART_BYTES)
    places = Ranges(offsets=starts - numbers * PART_BYTES, sizes=ends - starts)
    return numbers, places, addresses[of] + (starts - ranges.offsets[of])
