"""Bodies that come compressed though nobody asked: gzip and deflate are undone, piece by piece and within bounds.

No machine can undo more than another, so that all get the same bytes: other codings (br, zstd) fail by name.
"""

import zlib
from collections.abc import Iterator

from tarloom.errors import FetchError

CODINGS = frozenset({"br", "compress", "dcb", "dcz", "exi", "pack200-gzip", "x-compress", "zstd"})
"""Registered ones that are not undone. Other words mean nothing, and the body is taken as it is."""
_GZIP, _ZLIB, _RAW = 31, 15, -15
PIECE = 64 << 10
UNFOLDING = 100
"""Times what came: no picture unfolds to more, and bombs, which reach a thousand, would keep a worker busy for long."""
_PARTS = 256
"""Parts of a gzip stream, each a stream of its own; more are no picture but an attack."""


class Decoder:
    """Undoes a body's coding. A body that is called gzip and is none is taken as it is: servers often err so."""

    def __init__(self, encoding: str) -> None:
        """encoding: all Content-Encoding headers, joined by commas. Raises FetchError unknown_encoding."""
        names = [name for part in encoding.lower().split(",") if (name := part.strip()) not in ("", "identity")]
        known = [name for name in names if name in CODINGS or name in ("gzip", "x-gzip", "deflate")]
        if len(known) > 1 or not CODINGS.isdisjoint(known):
            raise FetchError("unknown_encoding", f"the body is encoded as {', '.join(known)}")
        self._coding = known[0].removeprefix("x-") if known else ""
        self._unpacker: zlib._Decompress | None = None
        self._rest = b""
        """What came and has not unfolded yet."""
        self._parts = 1
        self._came = self._unfolded = 0

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What a piece of the body unfolds to, a little at a time. Raises zlib.error, and FetchError too_large."""
        self._came += len(data)
        while piece := self.feed(data, PIECE):
            self._unfolded += len(piece)
            if self._unfolded > UNFOLDING * (self._came - len(self._rest) + PIECE):
                raise FetchError("too_large", f"the body unfolds to more than {UNFOLDING} times its bytes")
            yield piece
            data = b""

    def feed(self, data: bytes, at_most: int) -> bytes:
        """What a piece of the body unfolds to; of more than `at_most` bytes the first ones, then b"" gets the next.

        Raises zlib.error.
        """
        if self._coding and self._unpacker is None and data:
            self._begin(data[0])
        if self._unpacker is None:
            return data
        out, self._rest = b"", self._rest + data
        while len(out) < at_most and self._goes_on():
            out += self._unpacker.decompress(self._rest, at_most - len(out))
            self._rest = self._unpacker.unused_data or self._unpacker.unconsumed_tail
            if not self._unpacker.eof:
                break
        return out

    def end(self) -> None:
        """The body ended. Raises zlib.error where that is too early."""
        if self._unpacker is not None and not self._unpacker.eof:
            raise zlib.error("ends early")

    def _goes_on(self) -> bool:
        """Whether there is more to unfold: this part, or another behind it. What is neither is dropped."""
        if self._unpacker is None or not self._unpacker.eof:
            return True
        if not self._rest.startswith(b"\x1f"):
            self._rest = b""
            return False
        self._parts += 1
        if self._parts > _PARTS:
            raise zlib.error("too many parts")
        self._unpacker = zlib.decompressobj(_GZIP)
        return True

    def _begin(self, first: int) -> None:
        if self._coding == "deflate":
            self._unpacker = zlib.decompressobj(_ZLIB if first & 0x0F == zlib.DEFLATED else _RAW)
        elif first == 0x1F:
            self._unpacker = zlib.decompressobj(_GZIP)
        else:
            self._coding = ""
