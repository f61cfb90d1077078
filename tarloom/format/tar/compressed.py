"""Compressed tars (.tar.gz, .tar.zst, .tar.bz2, .tar.xz), read from front to back, as if they were tars.

Offsets count decompressed bytes. Of these one chunk is held at a time, and no more come out than an honest tar of this
many compressed bytes can hold. Concatenated gzip members, or frames and streams of the others, are one stream.
"""

import io
import lzma
from collections.abc import Iterator, Sequence

import pyarrow as pa

from tarloom.errors import CorruptShard, TruncatedShard, first_line
from tarloom.format.layout import compression_of
from tarloom.format.storage import Entry, Storage
from tarloom.format.storage.base import RangeSource
from tarloom.format.storage.streams import StorageStream, open_stream
from tarloom.format.tar.headers import REMEDY

CHUNK_BYTES = 1 << 20
MAX_RATIO = 1000
"""Decompressed to compressed bytes: what is more is no data but an attack. (gzip reaches 1032 where all is zero; a tar
of nothing but labels of a few bytes is compressed about 140 times.)"""
XZ_BYTES = 192 << 20
"""Of memory for xz, whose highest level takes 65 MiB."""
FREE_BYTES = 64 << 20
"""So much may come out whatever the ratio."""
_AT_A_BEGINNING = (
    "incorrect header check",
    "unknown compression method",
    "unknown header flags set",
    "invalid window size",
    "no magic header",
    "Input format not supported",
    "Unknown frame descriptor",
)
"""What zlib, Arrow's bz2, lzma and zstd say where no stream begins."""


def tar_ranges(storage: Storage, tar: Entry) -> RangeSource:
    """What gives byte ranges of a tar: its storage or, where it is compressed, one pass over what it holds."""
    return storage.ranges_of(tar) if compression_of(tar.name) is None else Unpacked(storage, tar)


def open_tar(storage: Storage, tar: Entry) -> io.BufferedIOBase:
    """The tar as a stream, decompressed; close it after use."""
    if compression_of(tar.name) is None:
        return open_stream(storage, tar)
    return io.BufferedReader(_UnpackedStream(Unpacked(storage, tar)), buffer_size=CHUNK_BYTES)


def proves_what_came_out(error: CorruptShard) -> bool:
    """Whether all bytes that a stream gave before this error are right: it was cut behind them, or whole streams lie
    there, and something else behind. Else a check sum failed, or would have, and any of them may be wrong."""
    return isinstance(error, TruncatedShard) or any(reason in str(error) for reason in _AT_A_BEGINNING)


class Unpacked(RangeSource):
    """The bytes of a compressed tar. To be asked forwards: what lies before the last chunk is decompressed anew.

    Raises CorruptShard for bytes that cannot be decompressed or are too many, TruncatedShard where they end too early.
    """

    def __init__(self, storage: Storage, tar: Entry, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._storage = storage
        self._tar = tar
        self._where = storage.describe(tar.name)
        self._chunk_bytes = chunk_bytes
        self._restart()

    def read_ranges(self, name: str, offsets: Sequence[int], sizes: Sequence[int]) -> list[memoryview]:
        """Byte ranges in the order asked for. name: the tar's, as storages want it."""
        found = [memoryview(b"")] * len(offsets)
        for i in sorted(range(len(offsets)), key=offsets.__getitem__):
            found[i] = memoryview(self(offsets[i], sizes[i])) if sizes[i] else found[i]
            if len(found[i]) < sizes[i]:
                raise self._ends(offsets[i] + len(found[i]), offsets[i] + sizes[i])
        return found

    def __call__(self, offset: int, size: int) -> bytes:
        """Bytes from an offset; fewer only where the tar ends. Raises TruncatedShard for an offset behind its end."""
        if offset < self._start:
            self._restart()
        while self._end <= offset and self._advance():
            pass
        if self._end < offset:
            raise self._ends(self._end, offset)
        parts = [self._data[offset - self._start :][:size]]
        missing = size - len(parts[0])
        while missing and self._advance():
            parts.append(self._data[:missing])
            missing -= len(parts[-1])
        return b"".join(parts)

    def drain(self) -> None:
        """Go on to the end: there lies what proves the bytes."""
        while self._advance():
            pass

    def _restart(self) -> None:
        raw, kind = io.BufferedReader(StorageStream(self._storage, self._tar)), compression_of(self._tar.name)
        self._stream = (
            _XzStream(raw, self._chunk_bytes)
            if kind == "xz"
            else pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), kind or "gzip")
        )
        self._start, self._data = 0, bytearray()

    @property
    def _end(self) -> int:
        return self._start + len(self._data)

    def _advance(self) -> bool:
        """Put the next chunk in the place of the last one; False, and nothing changes, where there is none."""
        chunk = bytearray(self._chunk_bytes)  # pyarrow's read() leaks what it has made where it fails
        try:
            del chunk[self._stream.readinto(chunk) :]
        except (OSError, EOFError, lzma.LZMAError, pa.ArrowException) as error:
            raise self._broken(error) from error
        if not chunk:
            return False
        self._start, self._data = self._end, chunk
        if self._end > max(FREE_BYTES, MAX_RATIO * self._tar.size):
            raise CorruptShard(
                f"{self._where}: expands to more than {MAX_RATIO} times its {self._tar.size} bytes, as no tar "
                "of samples does; decompress it by hand if you trust it"
            )
        return True

    def _broken(self, error: Exception) -> CorruptShard:
        reason = first_line(error)
        kind = TruncatedShard if reason.startswith("Truncated") else CorruptShard
        return kind(f"{self._where}: cannot be decompressed behind byte {self._end} of its tar ({reason}); {REMEDY}")

    def _ends(self, end: int, wanted: int) -> TruncatedShard:
        return TruncatedShard(f"{self._where}: its tar ends at byte {end}, before byte {wanted}; {REMEDY}")


class _XzStream:
    """What Arrow's stream is for the others."""

    def __init__(self, raw: io.BufferedIOBase, most: int) -> None:
        self._chunks = filter(None, _unxz(raw, most))

    def readinto(self, target: bytearray) -> int:
        """How many bytes came, at most as many as was said; 0 at the end."""
        data = next(self._chunks, b"")
        target[: len(data)] = data
        return len(data)


def _unxz(raw: io.BufferedIOBase, most: int) -> Iterator[bytes]:
    """What comes out of streams that lie one behind the other, with zeros between them or not."""
    packed = b""
    while packed := packed or raw.read(CHUNK_BYTES):
        packed = packed.lstrip(b"\0")
        if not packed:
            continue
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_BYTES)
        while not stream.eof:
            if stream.needs_input and not packed and not (packed := raw.read(CHUNK_BYTES)):
                raise EOFError("Truncated xz stream")
            yield stream.decompress(packed, most)
            packed = stream.unused_data


class _UnpackedStream(io.RawIOBase):
    """What is decompressed, as a file that is read once."""

    def __init__(self, unpacked: Unpacked) -> None:
        super().__init__()
        self._unpacked = unpacked
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: "memoryview") -> int:  # type: ignore[override]
        data = self._unpacked(self._position, len(target))
        target[: len(data)] = data
        self._position += len(data)
        return len(data)
