"""One door to files, local or in an object store: list, read, byte ranges, commit.

A `Storage` is a folder (or bucket prefix); names in it are relative and use "/". A file appears under its name whole or
not at all: local files are written beside their place as `.tmp-*`, synced and renamed; objects become visible when
their upload is complete. A temporary is locked (flock) for as long as its writer lives, so that `sweep` removes what a
killed run left behind and never what a living one is writing.

Storages are small and picklable: they travel to workers. Credentials, region and endpoint of object stores are taken
from the environment (AWS_*, GOOGLE_*, AZURE_*) where they are used.
"""

import contextlib
import fcntl
import mmap
import os
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import obstore
from obstore.store import from_url

from tarloom.errors import StorageError, UsageError
from tarloom.format.object_errors import translated
from tarloom.format.ranges import coalesce

TEMPORARY = ".tmp-"
REMOTE_SCHEMES = ("s3", "gs", "az", "abfs", "abfss", "memory")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file in a storage. `etag` is None where the storage has none (local files)."""

    name: str
    size: int
    etag: str | None = None


class Storage(ABC):
    """A folder of files, wherever it lies."""

    url: str

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All files below the folder `prefix` ("" for all), at any depth, in no particular order, temporaries left out.

        An absent folder lists as empty.
        """

    @abstractmethod
    def head(self, name: str) -> Entry | None:
        """The file's entry, None where there is no such file."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The whole file."""

    @abstractmethod
    def read_ranges(self, name: str, offsets: Sequence[int], sizes: Sequence[int]) -> Sequence[memoryview]:
        """Byte ranges of a file, in the order asked for; near ones are read together.

        Raises StorageError if the file ends before a range does.
        """

    @abstractmethod
    def create(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Write a file: it appears under its name, whole, when the block ends without an exception, else not at all."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file; none to remove is no error."""

    @abstractmethod
    def sweep(self) -> int:
        """Remove temporaries whose writer is dead; how many there were."""

    def local_path(self, name: str) -> Path | None:
        """Where the file lies on this machine; None in an object store."""
        return None

    def write(self, name: str, data: bytes) -> None:
        """Commit a small file at once."""
        with self.create(name) as file:
            file.write(data)

    def describe(self, name: str) -> str:
        """The file's full address, for messages."""
        return f"{self.url}/{name}"


def open_storage(location: str | Path) -> Storage:
    """The storage at a local folder (absent ones are made on the first write) or a URL such as s3://bucket/folder.

    Raises UsageError for a scheme that is not known.
    """
    text = os.fspath(location)
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme in ("", "file"):
        return LocalStorage(str(Path(text.removeprefix("file://")).expanduser().absolute()))
    if scheme in REMOTE_SCHEMES:
        return ObjectStorage(text.rstrip("/"))
    raise UsageError(f"{text}: unknown scheme {scheme!r}; use a local path or one of {', '.join(REMOTE_SCHEMES)}")


def split_location(location: str | Path) -> tuple[Storage, str]:
    """The storage of a file's folder, and the file's name in it."""
    folder, _, name = os.fspath(location).rpartition("/")
    return open_storage(folder or ("/" if os.fspath(location).startswith("/") else ".")), name


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
            raise _cut_short(self.describe(name))
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


@dataclass(frozen=True)
class ObjectStorage(Storage):
    """A prefix in an object store, through obstore."""

    url: str

    def list(self, prefix: str = "") -> Iterator[Entry]:
        with translated(self.describe(prefix)):
            for chunk in obstore.list(_store(self.url), prefix=prefix or None, chunk_size=1000):
                for meta in chunk:
                    yield Entry(name=meta["path"], size=meta["size"], etag=meta["e_tag"])

    def head(self, name: str) -> Entry | None:
        try:
            with translated(self.describe(name)):
                meta = obstore.head(_store(self.url), name)
        except FileNotFoundError:
            return None
        return Entry(name=name, size=meta["size"], etag=meta["e_tag"])

    def read(self, name: str) -> bytes:
        with translated(self.describe(name), absent_is_error=True):
            return bytes(obstore.get(_store(self.url), name).bytes())

    def read_ranges(self, name: str, offsets: Sequence[int], sizes: Sequence[int]) -> Sequence[memoryview]:
        spans = coalesce(offsets, sizes)
        views = [memoryview(b"")] * len(offsets)
        if not spans:
            return views
        # obstore's own coalescing panics where an object has become shorter than the ranges asked for.
        starts, ends = [span.start for span in spans], [span.end for span in spans]
        with translated(self.describe(name), absent_is_error=True):
            found = obstore.get_ranges(_store(self.url), name, starts=starts, ends=ends, coalesce=0)
        for span, data in zip(spans, found, strict=True):
            if len(data) != span.end - span.start:
                raise _cut_short(self.describe(name))
            for i in span.ranges:
                views[i] = memoryview(data)[offsets[i] - span.start :][: sizes[i]]
        return views

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        with tempfile.TemporaryFile(prefix="tarloom-") as spool:
            yield spool
            spool.seek(0)
            with translated(self.describe(name)):
                obstore.put(_store(self.url), name, spool)

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), translated(self.describe(name)):
            obstore.delete(_store(self.url), name)

    def sweep(self) -> int:
        """Unfinished uploads are never visible; a bucket's lifecycle rule clears their parts."""
        return 0


@lru_cache(maxsize=64)
def _store(url: str) -> Any:
    return from_url(url, retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=60)})


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


def _cut_short(where: str) -> StorageError:
    return StorageError(f"{where}: ends before a range that was asked for; it was cut short or replaced meanwhile")


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
