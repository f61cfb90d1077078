"""Files on this machine: written beside their place under a temporary name, synced, and renamed.

A temporary is locked (flock) for as long as its writer lives, so that `sweep` removes what a killed run left behind and
never what a living one is writing.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, TypeVar

import numpy as np
import pyarrow as pa

from tarloom.errors import StorageError, UnreadableFile
from tarloom.format.memory import allocate
from tarloom.format.storage.base import Entry, Storage, Survey, cut_short
from tarloom.format.storage.packing import cut_from_pack
from tarloom.format.storage.ranges import Ranges
from tarloom.format.storage.scatter import EndsBefore, scatter

TEMPORARY = ".tmp-"
_OF_ONE_FILE = (
    *(errno.EACCES, errno.EINVAL, errno.EISDIR, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM),
    *(errno.EBADMSG, errno.EIO, errno.EUCLEAN),
)
"""Errors that say nothing of other files, if their folder is there: bad sectors, too. Those of a network or of this
process (ESTALE, EMFILE) do."""
Answer = TypeVar("Answer")


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
        with _translated(self.url):
            for name, found in self._walk(prefix.strip("/"), private=True):
                yield from _entries(name, found)

    def survey(self, wanted: Callable[[str], bool], known: Callable[[], Sequence[str]] = tuple) -> Survey:
        survey: Survey = ([], set())
        entries, names = survey
        with _translated(self.url):
            for name, found in self._walk("", private=False):
                if wanted(name):
                    entries += _entries(name, found)
                else:  # not asked for its size: that would be another request to a network file system
                    names.add(name)
        return survey

    def _walk(self, prefix: str, *, private: bool) -> "Iterator[tuple[str, os.DirEntry[str]]]":
        """All files below a folder, with their names; with or without those in private folders.

        Links to nothing, and to where the way has already led, are left out; so are pipes and devices: to open one may
        take forever.
        """
        stack = [_Folder(path=self._path(prefix), prefix=f"{prefix}/" if prefix else "")]
        while stack:
            folder = stack.pop()
            with (
                _translated(str(folder.path)),
                contextlib.suppress(FileNotFoundError),
                os.scandir(folder.path) as entries,
            ):
                for entry in entries:
                    if _holds(entry.is_file):
                        if not entry.name.startswith(TEMPORARY):
                            yield folder.prefix + entry.name, entry
                    elif (private or not entry.name.startswith(("_", "."))) and _holds(entry.is_dir):
                        stack += _below(folder, entry)

    def head(self, name: str) -> Entry | None:
        where = self.describe(name)
        with _translated(where), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found = os.stat(where)
            if stat.S_ISREG(found.st_mode):
                return _entry(name, found)
        return None

    def read(self, name: str) -> bytes:
        with _translated(self.describe(name)):
            return self._path(name).read_bytes()

    def read_at_most(self, name: str, most: int) -> bytes | None:
        where = self.describe(name)
        with _translated(where):
            try:
                return _read_at_most(where, most)
            except OSError as error:
                if error.errno not in _OF_ONE_FILE:
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
        with _translated(where), open(where, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def reader(self, name: str) -> "LocalReader":
        """Gives bytes from any place of a file."""
        with _translated(self.describe(name)):
            return LocalReader(self._path(name))

    def read_ranges(self, name: str, offsets: Sequence[int], sizes: Sequence[int]) -> Sequence[memoryview]:
        return cut_from_pack(self, name, offsets, sizes)

    def read_packed(self, name: str, groups: Sequence[Ranges]) -> Sequence[pa.Buffer]:
        buffers = [allocate(int(group.sizes.sum())) for group in groups]
        places = [buffer.address + group.places for buffer, group in zip(buffers, groups, strict=True)]
        where = self.describe(name)
        with _translated(where), open(where, "rb", buffering=0) as file:
            try:
                scatter(file.fileno(), Ranges.joined(groups), np.concatenate([np.zeros(0, np.int64), *places]))
            except EndsBefore:
                raise cut_short(where) from None
        return buffers

    def create(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        return self._written(name, os.rename)

    def write_new(self, name: str, data: bytes) -> bool:
        try:
            with self._written(name, _link_new) as file:
                file.write(data)
        except _Taken:
            return False
        return True

    @contextlib.contextmanager
    def _written(self, name: str, settle: Callable[[str, Path], None]) -> Iterator[IO[bytes]]:
        """A temporary to write to; when the block ends well, it is synced and `settle` puts it into its place."""
        target = self._path(name)
        with _translated(self.describe(name)):
            target.parent.mkdir(parents=True, exist_ok=True)
            file = _locked_temporary(target)
            try:
                with file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                    settle(file.name, target)
                _sync_folder(target.parent)
            finally:
                Path(file.name).unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        with _translated(self.describe(name)):
            self._path(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        target = self._path(name)
        path = target.parent / f"{TEMPORARY}lock-{target.name}"
        with _translated(self.describe(name)):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = _locked_file(path, "wb")
        with file:
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def write_unsynced(self, name: str, data: bytes) -> None:
        with _translated(self.describe(name)):
            target = self._path(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            file = _locked_temporary(target)
            try:
                with file:
                    file.write(data)
                    file.flush()
                    os.rename(file.name, target)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    def delete_folder(self, prefix: str) -> None:
        with _translated(self.describe(prefix)), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._path(prefix))

    def sweep(self) -> int:
        walk = os.walk(self.url)  # which passes over folders that are deleted meanwhile, as rglob does not
        found = (Path(folder, name) for folder, _, names in walk for name in names if name.startswith(TEMPORARY))
        return sum(map(_remove_if_abandoned, found))


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


def _entry(name: str, found: os.stat_result) -> Entry:
    return Entry(name=name, size=found.st_size, mtime_ns=found.st_mtime_ns)


def _entries(name: str, found: "os.DirEntry[str]") -> tuple[Entry, ...]:
    """The file's entry; none where it is gone by now."""
    try:
        return (_entry(name, found.stat()),)
    except OSError as error:
        return _nothing_there(error, ())


def _holds(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError as error:
        return _nothing_there(error, False)


def _nothing_there(error: OSError, answer: Answer) -> Answer:
    """The answer about a link to nothing, or to itself, or what was removed meanwhile; other errors are raised."""
    if error.errno in (errno.ENOENT, errno.ELOOP):
        return answer
    raise error


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


@dataclass(frozen=True, kw_only=True)
class _Folder:
    """A folder on the way through a listing, and the folders from which links were followed to it."""

    path: Path
    prefix: str
    """Of the names of what lies in it."""
    left: tuple[Path, ...] = ()


def _below(folder: _Folder, entry: "os.DirEntry[str]") -> "tuple[_Folder, ...]":
    """The folder of this entry, unless the way has led there before."""
    path, left = Path(entry.path), folder.left
    if entry.is_symlink():
        left = (*left, folder.path.resolve())
        if any(step.is_relative_to(path.resolve()) for step in left):
            return ()
    return (_Folder(path=path, prefix=f"{folder.prefix}{entry.name}/", left=left),)


@contextlib.contextmanager
def _translated(where: str) -> Iterator[None]:
    """The system's errors as StorageError."""
    try:
        yield
    except OSError as error:
        is_file = isinstance(error, FileExistsError)  # of `mkdir`, for a folder that may be there
        reason = "a file lies where a folder should be" if is_file else error.strerror or error
        raise StorageError(f"{where}: {reason}; check the path, its permissions and the free space") from error


class _Taken(Exception):
    """There is a file of that name already."""


def _link_new(temporary: str, target: Path) -> None:
    """Give a file its name unless that is taken; raises _Taken."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise _Taken from None
    except OSError:  # A file system without hard links: then two writers of one moment are not told apart.
        if target.exists():
            raise _Taken from None
        os.rename(temporary, target)


def _locked_temporary(target: Path) -> IO[bytes]:
    """A new temporary beside its target, locked while it is open."""
    # A part of the target's name is enough for who looks; the whole one may be as long as a name can be.
    return _locked_file(target.parent / f"{TEMPORARY}{target.name[:40]}-{uuid.uuid4().hex[:12]}", "xb")


def _locked_file(path: Path, mode: Literal["xb", "wb"]) -> IO[bytes]:
    """A file that nobody else has locked. A sweeper, or who had it before, may have removed it meanwhile: try again."""
    while True:
        file = open(path, mode)  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        file.close()


def _remove_if_abandoned(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            return True
    except OSError:  # locked, gone, or not ours to remove
        return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
