"""Files on this machine: written beside their place under a temporary name, synced, and renamed.

A temporary is locked (flock) for as long as its writer lives, so that `sweep` removes what a killed run left behind and
never what a living one is writing.
"""

import contextlib
import fcntl
import mmap
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tarloom.errors import StorageError
from tarloom.format.storage_base import Entry, Storage, cut_short

TEMPORARY = ".tmp-"


@dataclass(frozen=True)
class LocalStorage(Storage):
    """A folder on this machine (or a network file system that looks like one)."""

    url: str

    def _path(self, name: str) -> Path:
        return Path(self.url, name)

    def local_path(self, name: str) -> Path | None:
        return self._path(name)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        stack = [self._path(prefix)]
        while stack:
            try:
                folders, files = _scan(stack.pop())
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _storage_error(error, self.describe(prefix)) from error
            stack += folders
            for path, size in files:
                yield Entry(name=os.path.relpath(path, self.url), size=size)

    def head(self, name: str) -> Entry | None:
        try:
            return Entry(name=name, size=self._path(name).stat().st_size)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _storage_error(error, self.describe(name)) from error

    def read(self, name: str) -> bytes:
        try:
            return self._path(name).read_bytes()
        except OSError as error:
            raise _storage_error(error, self.describe(name)) from error

    def map(self, name: str) -> memoryview:
        """The whole file, memory-mapped and read-only; it stays open while views of it live."""
        try:
            with open(self._path(name), "rb") as file:
                if os.fstat(file.fileno()).st_size == 0:
                    return memoryview(b"")
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise _storage_error(error, self.describe(name)) from error

    def read_ranges(self, name: str, offsets: Sequence[int], sizes: Sequence[int]) -> Sequence[memoryview]:
        view = self.map(name)
        if any(offset + size > len(view) for offset, size in zip(offsets, sizes, strict=True)):
            raise cut_short(self.describe(name))
        return [view[offset : offset + size] for offset, size in zip(offsets, sizes, strict=True)]

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        target = self._path(name)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            file = _locked_temporary(target)
        except OSError as error:
            raise _storage_error(error, self.describe(name)) from error
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.rename(file.name, target)
            _sync_folder(target.parent)
        except BaseException as error:
            Path(file.name).unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise _storage_error(error, self.describe(name)) from error
            raise

    def delete(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def sweep(self) -> int:
        return sum(_remove_if_abandoned(path) for path in Path(self.url).rglob(f"{TEMPORARY}*"))


def _scan(folder: Path) -> tuple[list[Path], list[tuple[str, int]]]:
    """The folders in a folder, and its files with their sizes, by name.

    Links to nothing, and back up, are left out; so are pipes and devices: to open one may take forever.
    """
    folders, files = [], []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        with contextlib.suppress(FileNotFoundError):  # a link to nothing, or removed meanwhile
            if entry.is_file():
                if not entry.name.startswith(TEMPORARY):
                    files.append((entry.path, entry.stat().st_size))
            elif entry.is_dir() and not _leads_back(entry, folder):
                folders.append(Path(entry.path))
    return folders, files


def _leads_back(entry: os.DirEntry[str], folder: Path) -> bool:
    """Whether an entry of a folder is a link to that folder or one above it."""
    return entry.is_symlink() and folder.resolve().is_relative_to(Path(entry.path).resolve())


def _storage_error(error: OSError, where: str) -> StorageError:
    return StorageError(f"{where}: {error.strerror or error}; check the path, its permissions and the free space")


def _locked_temporary(target: Path) -> IO[bytes]:
    """A new temporary beside its target, locked while it is open. A sweeper may win the race for it: then try again."""
    while True:
        path = target.parent / f"{TEMPORARY}{target.name}-{uuid.uuid4().hex[:12]}"
        file = open(path, "xb")  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():
            return file
        file.close()


def _remove_if_abandoned(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            return True
    except (BlockingIOError, FileNotFoundError):
        return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
