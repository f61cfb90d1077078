"""What every storage offers, wherever its files lie: list, read, byte ranges, commit."""

import contextlib
import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa

from tarloom.errors import StorageError, UnreadableFile
from tarloom.format.storage.ranges import Ranges


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file in a storage. `etag` is None where the storage has none (local files)."""

    name: str
    size: int
    etag: str | None = None
    mtime_ns: int | None = None
    """When a local file was last changed; None in an object store, whose ETags say more."""

    @property
    def version(self) -> str | None:
        """What tells this file from another of its name and size; None where nothing does."""
        return self.etag or (None if self.mtime_ns is None else f"mtime:{self.mtime_ns}")

    @property
    def is_gone(self) -> bool:
        """Whether there is no file: it is a link to nothing, or was lost."""
        return (self.size, self.version) == (0, None)


Survey = tuple[list[Entry], set[str]]
Values = pa.Buffer | list[bytes]
"""Byte ranges one behind the other, or each by itself."""


class RangeSource(ABC):
    """What gives byte ranges of files."""

    @abstractmethod
    def read_ranges(self, name: str, offsets: Sequence[int], sizes: Sequence[int]) -> Sequence[memoryview]:
        """Byte ranges of a file, in the order asked for; near ones are read together (ranges.py).

        Raises StorageError if the file ends before a range does.
        """

    def read_packed(self, name: str, groups: Sequence[Ranges]) -> Sequence[pa.Buffer]:
        """Byte ranges of a file: for each group a buffer that holds its ranges, one behind the other.

        Raises as read_ranges does.
        """
        ranges = Ranges.joined(groups)
        found = self.read_ranges(name, ranges.offsets.tolist(), ranges.sizes.tolist())
        bounds = itertools.pairwise(itertools.accumulate(map(len, groups), initial=0))
        return [pa.py_buffer(b"".join(found[first:last])) for first, last in bounds]

    def read_values(self, name: str, groups: Sequence[Ranges], apart: Collection[int]) -> Sequence[Values]:
        """As read_packed; but where it spares a copy, groups of these numbers come as lists: the bytes of each range.

        Raises as read_ranges does.
        """
        return self.read_packed(name, groups)


class Storage(RangeSource):
    """A folder of files, wherever it lies."""

    url: str

    def ranges_of(self, entry: Entry) -> RangeSource:
        """What gives byte ranges of a file that is known to be this version; by default, of what is there."""
        return self

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All files below the folder `prefix` ("" for all), at any depth, in no particular order, temporaries left out.

        An absent folder lists as empty.
        """

    def survey(self, wanted: Callable[[str], bool], known: Callable[[], Sequence[str]] = tuple) -> Survey:
        """From one listing: the files whose names are wanted, and of all others no more than their names.

        What lies in folders whose names begin with "_" or "." may be left out. A link to nothing is a file, too, where
        it is wanted: with an entry of no size and version.
        known: gives names of some time ago, sorted, where they can make the listing faster.
        """
        return sift(self.list(), wanted)

    @abstractmethod
    def head(self, name: str) -> Entry | None:
        """The file's entry, None where there is no such file."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The whole file."""

    def read_at_most(self, name: str, most: int) -> bytes | None:
        """The whole file; None where it has more than `most` bytes.

        Raises UnreadableFile where it is the file's own fault, StorageError where others could not be read either.
        """
        entry = self.head(name)
        if entry is None:
            raise UnreadableFile(f"{self.describe(name)}: no such file")
        return self.read(name) if entry.size <= most else None

    def read_end(self, name: str, size: int) -> tuple[memoryview, int] | None:
        """A file's last bytes, at most so many, and how many it has in all; None where there is no such file."""
        entry = self.head(name)
        if entry is None:
            return None
        length = min(size, entry.size)
        return self.read_ranges(name, [entry.size - length], [length])[0], entry.size

    @abstractmethod
    def create(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Write a file: it appears under its name, whole, when the block ends without an exception, else not at all."""

    @abstractmethod
    def write_new(self, name: str, data: bytes) -> bool:
        """Commit a small file unless there is one of that name; whether it was written. Of two writers one wins."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file; none to remove is no error."""

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Keep everybody out of the block who asks for the same name; a lock ends with its holder. Object stores know
        no such locks: there nobody is kept out."""
        yield

    @abstractmethod
    def sweep(self) -> int:
        """Remove temporaries whose writer is dead; how many there were."""

    def local_path(self, name: str) -> Path | None:
        """Where the file lies on this machine; None in an object store."""
        return None

    @property
    def is_local(self) -> bool:
        """Whether files lie on this machine, or on what looks like it: a network file system."""
        return self.local_path("") is not None

    @property
    def place(self) -> str:
        """Where the files really lie, whatever links lead there."""
        folder = self.local_path("")
        return self.url if folder is None else os.path.realpath(folder)

    def lies_in(self, other: "Storage") -> bool:
        """Whether this folder is the other one or somewhere below it: by its address, or where files really lie."""
        both = ((self.url, other.url), (self.place, other.place))
        return any(f"{mine}/".startswith(f"{theirs.rstrip('/')}/") for mine, theirs in both)

    def write(self, name: str, data: bytes) -> None:
        """Commit a small file at once."""
        with self.create(name) as file:
            file.write(data)

    def write_unsynced(self, name: str, data: bytes) -> None:
        """Write a small file that costs little to lose: where the power fails, it may be gone, or hold anything."""
        self.write(name, data)

    def delete_folder(self, prefix: str) -> None:
        """Remove a folder that nobody writes to, and all that is in it; none to remove is no error."""
        for entry in [*self.list(prefix)]:
            self.delete(entry.name)

    def describe(self, name: str) -> str:
        """The file's full address, for messages."""
        return f"{self.url}/{name}"


def sift(listing: Iterable[Entry], wanted: Callable[[str], bool]) -> Survey:
    """Entries whose names are wanted, and the names of the others."""
    entries, names = [], set()
    for entry in listing:
        if wanted(entry.name):
            entries.append(entry)
        else:
            names.add(entry.name)
    return entries, names


def links_to_nothing(storage: Storage, wanted: Callable[[str], bool]) -> "list[str]":
    """The names of links that lead to no file, of those that are wanted."""
    return [entry.name for entry in storage.survey(wanted)[0] if entry.is_gone] if storage.is_local else []


def cut_short(where: str) -> StorageError:
    """The error to raise where a range reaches behind the end of its file."""
    return StorageError(f"{where}: ends before a range that was asked for; it was cut short or replaced meanwhile")


@contextlib.contextmanager
def denied_is_absent() -> Iterator[None]:
    """For what is a cache, or may be missing: whoever made it may have kept it to themselves (umask 077)."""
    try:
        yield
    except StorageError as error:
        if not isinstance(error.__cause__, PermissionError):
            raise
