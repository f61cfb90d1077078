"""Places that a source may lie in and nothing can be written to."""

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import IO, NoReturn

import pyarrow as pa

from tarloom.errors import StorageError
from tarloom.format.storage.base import Entry, Storage
from tarloom.format.storage.packing import cut_from_pack, pack
from tarloom.format.storage.ranges import Ranges


class ReadOnlyStorage(Storage):
    """A storage that can be read from one file and range after the other."""

    def list(self, prefix: str = "") -> Iterator[Entry]:
        raise StorageError(f"{self.describe(prefix)}: cannot be listed; name a file")

    def read(self, name: str) -> bytes:
        entry = self.head(name)
        if entry is None:
            raise StorageError(f"{self.describe(name)}: no such file")
        return bytes(self.read_ranges(name, [0], [entry.size])[0])

    def read_ranges(self, name: str, offsets: Sequence[int], sizes: Sequence[int]) -> Sequence[memoryview]:
        return cut_from_pack(self, name, offsets, sizes)

    def read_packed(self, name: str, groups: Sequence[Ranges]) -> Sequence[pa.Buffer]:
        return pack(groups, partial(self._fetch, name))

    def _fetch(self, name: str, starts: Sequence[int], ends: Sequence[int]) -> Sequence[memoryview]:
        return [self.read_range(name, start, end - start) for start, end in zip(starts, ends, strict=True)]

    def read_range(self, name: str, offset: int, size: int) -> memoryview:
        """These bytes of a file. Raises StorageError if it ends before them."""
        raise NotImplementedError

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        self._refuse(name)
        yield  # It is a context manager that never opens.

    def write_new(self, name: str, data: bytes) -> bool:
        self._refuse(name)

    def delete(self, name: str) -> None:
        self._refuse(name)

    def sweep(self) -> int:
        return 0

    def _refuse(self, name: str) -> NoReturn:
        raise StorageError(f"{self.describe(name)}: can only be read from")
