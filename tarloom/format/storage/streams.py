"""A file of any storage as a file object, for libraries that want one; best read from front to back."""

import io

from tarloom.format.storage import Entry, Storage
from tarloom.format.storage.local_errors import translated

CHUNK_BYTES = 8 << 20


class StorageStream(io.RawIOBase):
    """A read-only, seekable file over byte ranges of a storage; one chunk is held at a time."""

    def __init__(self, storage: Storage, entry: Entry) -> None:
        super().__init__()
        self._source = storage.ranges_of(entry)
        self._entry = entry
        self._position = 0
        self._chunk = memoryview(b"")
        self._chunk_start = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._entry.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, target: "memoryview") -> int:  # type: ignore[override]
        start = self._position - self._chunk_start
        if not 0 <= start < len(self._chunk):
            size = min(CHUNK_BYTES, self._entry.size - self._position)
            if size <= 0:
                return 0
            (self._chunk,) = self._source.read_ranges(self._entry.name, [self._position], [size])
            self._chunk_start, start = self._position, 0
        data = self._chunk[start : start + len(target)]
        target[: len(data)] = data
        self._position += len(data)
        return len(data)


def open_stream(storage: Storage, entry: Entry) -> io.BufferedIOBase:
    """The whole file as a stream; close it after use. Raises StorageError where it cannot be opened."""
    path = storage.local_path(entry.name)
    if path is not None:
        with translated(str(path)):
            return open(path, "rb")
    return io.BufferedReader(StorageStream(storage, entry), buffer_size=1 << 20)
