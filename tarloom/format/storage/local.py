"""Files on this machine: written beside their place under a temporary name, synced, and renamed.

A temporary is locked (flock) for as long as its writer lives, so that `sweep` removes what a killed run left behind and
never what a living one is writing.
"""

import contextlib
import errno
import mmap
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
import pyarrow as pa

from tarloom.errors import StorageError, UnreadableFile
from tarloom.format.memory import allocate
from tarloom.format.storage.base import Entry, Storage, Survey, Values, cut_short
from tarloom.format.storage.local_errors import OF_ONE_FILE, translated
from tarloom.format.storage.local_listing import entries_of, entry_of, files_below
from tarloom.format.storage.packing import cut_from_pack
from tarloom.format.storage.ranges import Ranges
from tarloom.format.storage.scatter import EndsBefore, scatter
from tarloom.format.storage.temporaries import (
    TEMPORARY,
    Taken,
    link_new,
    locked_file,
    locked_temporary,
    remove_if_abandoned,
    sync_folder,
)
from tarloom.format.unfilled import unfilled


@dataclass(frozen=True)
class LocalStorage(Storage):
    """A folder on this machine (or a network file system that looks like one)."""

    url: str

    def _path(self, name: str) -> Path:
        return Path(self.url, name)

    def local_path(self, name: str) -> Path | None:
        return self._path(name)

    @property
    def is_local(self) -> bool:
        return True

    def list(self, prefix: str = "") -> Iterator[Entry]:
        with translated(self.url):
            for name, found in files_below(self.url, prefix.strip("/")):
                yield from entries_of(name, found)

    def survey(self, wanted: Callable[[str], bool], known: Callable[[], Sequence[str]] = tuple) -> Survey:
        survey: Survey = ([], set())
        entries, names = survey
        with translated(self.url):
            for name, found in files_below(self.url, private=False, lost=wanted):
                if wanted(name):
                    entries += entries_of(name, found)
                else:  # not asked for its size: that would be another request to a network file system
                    names.add(name)
        return survey

    def head(self, name: str) -> Entry | None:
        where = self.describe(name)
        with translated(where), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found = os.stat(where)
            if stat.S_ISREG(found.st_mode):
                return entry_of(name, found)
        return None

    def read(self, name: str) -> bytes:
        with translated(self.describe(name)):
            return self._path(name).read_bytes()

    def read_at_most(self, name: str, most: int) -> bytes | None:
        where = self.describe(name)
        with translated(where):
            try:
                return _read_at_most(where, most)
            except OSError as error:
                if error.errno not in OF_ONE_FILE:
                    raise
                self.check_is_there()
                raise UnreadableFile(f"{where}: {error.strerror}; check the path and its permissions") from error

    def check_is_there(self) -> None:
        """Raise StorageError where the folder has gone. A disk that is gone leaves an empty one."""
        try:
            with os.scandir(self.url) as entries:
                if next(entries, None) is not None:
                    return
        except PermissionError:  # a folder that cannot be listed can be read from
            return
        except OSError:
            pass
        raise StorageError(f"{self.url}: is not there, or empty; check the path, and that its disk is mounted")

    def map(self, name: str) -> memoryview:
        """The whole file, memory-mapped and read-only; it stays open while views of it live."""
        where = self.describe(name)
        with translated(where), open(where, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def reader(self, name: str) -> "LocalReader":
        """Gives bytes from any place of a file."""
        with translated(self.describe(name)):
            return LocalReader(self._path(name))

    def read_ranges(self, name: str, offsets: Sequence[int], sizes: Sequence[int]) -> Sequence[memoryview]:
        return cut_from_pack(self, name, offsets, sizes)

    def read_packed(self, name: str, groups: Sequence[Ranges]) -> Sequence[pa.Buffer]:
        return cast("Sequence[pa.Buffer]", self.read_values(name, groups, apart=()))

    def read_values(self, name: str, groups: Sequence[Ranges], apart: Collection[int]) -> Sequence[Values]:
        made = [_room(group, apart=number in apart) for number, group in enumerate(groups)]
        self._scatter(name, groups, [addresses for _, addresses in made])
        return [values for values, _ in made]

    def _scatter(self, name: str, groups: Sequence[Ranges], addresses: Sequence[np.ndarray]) -> None:
        where = self.describe(name)
        with translated(where), open(where, "rb", buffering=0) as file:
            try:
                scatter(file.fileno(), Ranges.joined(groups), np.concatenate([np.zeros(0, np.int64), *addresses]))
            except EndsBefore:
                raise cut_short(where) from None

    def create(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        return self._written(name, os.rename)

    def write_new(self, name: str, data: bytes) -> bool:
        try:
            with self._written(name, link_new) as file:
                file.write(data)
        except Taken:
            return False
        return True

    @contextlib.contextmanager
    def _written(self, name: str, settle: Callable[[str, Path], None]) -> Iterator[IO[bytes]]:
        """A temporary to write to; when the block ends well, it is synced and `settle` puts it into its place."""
        target = self._path(name)
        with translated(self.describe(name)):
            target.parent.mkdir(parents=True, exist_ok=True)
            file = locked_temporary(target)
            try:
                with file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                    settle(file.name, target)
                sync_folder(target.parent)
            finally:
                Path(file.name).unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        with translated(self.describe(name)):
            self._path(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        target = self._path(name)
        path = target.parent / f"{TEMPORARY}lock-{target.name}"
        with translated(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = locked_file(path, "ab")
        with file:
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def write_unsynced(self, name: str, data: bytes) -> None:
        with translated(self.describe(name)):
            target = self._path(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            file = locked_temporary(target)
            try:
                with file:
                    file.write(data)
                    file.flush()
                    os.rename(file.name, target)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    def delete_folder(self, prefix: str) -> None:
        with translated(self.describe(prefix)), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._path(prefix))

    def sweep(self) -> int:
        walk = os.walk(self.url)  # which passes over folders that are deleted meanwhile, as rglob does not
        found = (Path(folder, name) for folder, _, names in walk for name in names if name.startswith(TEMPORARY))
        return sum(map(remove_if_abandoned, found))


def _room(ranges: Ranges, *, apart: bool) -> tuple[Values, np.ndarray]:
    """What these ranges are to be read into, and the address for each."""
    if apart:
        return unfilled(ranges.sizes.tolist())
    buffer = allocate(int(ranges.sizes.sum()))
    return buffer, buffer.address + ranges.places


def _read_at_most(path: str, most: int) -> bytes | None:
    """A file's bytes, None where there are more. To open a pipe or device may take forever, so none is."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a file")
    if found.st_size > most:
        return None
    with open(path, "rb") as file:
        data = file.read(found.st_size + 1)
        if len(data) > found.st_size:  # it has grown, or is one of those whose size nobody knows, as in /proc
            data += file.read(most + 1 - len(data))
    return data if len(data) <= most else None


class LocalReader:
    """Gives bytes of a file from an offset, fewer only where it ends. The file stays open while this lives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)

    def __call__(self, offset: int, size: int) -> bytes:
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror}; check the disk") from error

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # it could not be opened
            os.close(self._descriptor)
