"""Members decoded where they were read: in threads, since the decoders release the GIL; in order; in bounded memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from tarloom.format.ahead import ahead
from tarloom.format.cpus import cpu_share
from tarloom.read.ledger import Skipped
from tarloom.read.samples.chunk import Chunk
from tarloom.read.samples.decoders import Form, Result, Row, RowDecoder
from tarloom.read.samples.pictures import PictureColumn
from tarloom.read.view import DecodeAs

DECODED_BYTES: Final[dict[Form, int]] = {"batch": 16 << 20, "sample": 4 << 20}
"""A chunk ends where it would grow beyond this, unless it is one row: a decoded picture is about ten times larger than
its file. From 32 MiB on the C library gives fresh memory to each, which cost a third of the decoding (256 pixels: 550
us a picture with 64 MiB, 400 with 4 to 16)."""
AHEAD = 2
"""Rows under way for every thread: it need not wait for the caller to take what it has made."""


def decoded(chunks: Iterable[Chunk], members: Mapping[str, DecodeAs], form: Form, *, url: str) -> Iterator[Chunk]:
    """The chunks of the tar at `url` with members decoded; rows where that failed are among `errors`.

    There are as many threads as this process has CPUs for itself; with one, the caller decodes.
    """
    decode, threads = RowDecoder(members, form, url), cpu_share()
    threaded = threads > 1 and not {"rgb", "pil"}.isdisjoint(members.values())
    for chunk in chunks:
        rows = _rows(chunk, decode.members)
        results = ahead(decode, rows, threads=threads, each=AHEAD) if threaded else map(decode, rows)
        yield from _gathered(chunk, members, form, results)


def _rows(chunk: Chunk, members: Sequence[str]) -> Iterator[Row]:
    keys: list[str] = chunk.keys.to_pylist()  # type: ignore[assignment]
    columns = (chunk.members[member] for member in members)
    return zip(keys, zip(*columns, strict=True), strict=True)


def _gathered(chunk: Chunk, members: Mapping[str, DecodeAs], form: Form, results: Iterable[Result]) -> Iterator[Chunk]:
    """The chunk with what its rows were decoded to, in parts of bounded size."""
    first, part = 0, _Part(members, form, len(chunk))
    for row, result in enumerate(results):
        size = _size(result)
        if part.rows and part.size + size > DECODED_BYTES[form]:
            yield part.of(chunk.slice(first, row))
            first, part = row, _Part(members, form, len(chunk) - row)
        part.add(result, size)
    if part.rows:
        yield part.of(chunk.slice(first, first + part.rows))


class _Part:
    """What some rows that follow each other were decoded to."""

    def __init__(self, members: Mapping[str, DecodeAs], form: Form, rows: int) -> None:
        room = partial(PictureColumn, rows=rows, limit=DECODED_BYTES[form])
        self._columns: dict[str, list[Any] | PictureColumn] = {
            member: room() if form == "batch" and decode_as == "rgb" else [] for member, decode_as in members.items()
        }
        self._failed: dict[int, Skipped] = {}
        self.rows = 0
        self.size = 0
        """Bytes of pictures."""

    def add(self, result: Result, size: int) -> None:
        if isinstance(result, Skipped):
            self._failed[self.rows] = result
            result = [None] * len(self._columns)
        for column, value in zip(self._columns.values(), result, strict=True):
            column.append(value)
        self.rows += 1
        self.size += size

    def of(self, chunk: Chunk) -> Chunk:
        """The chunk of these rows with them in it."""
        made = {name: c if isinstance(c, list) else c.finish() for name, c in self._columns.items()}
        return replace(chunk, members={**chunk.members, **made}, errors={**chunk.errors, **self._failed})


def _size(result: Result) -> int:
    """Bytes of the pictures in it; text and JSON are about as large as they were."""
    if isinstance(result, Skipped):
        return 0
    arrays: list[int] = [value.nbytes for value in result if hasattr(value, "nbytes")]
    images: list[int] = [4 * value.width * value.height for value in result if hasattr(value, "getbands")]
    return sum(arrays) + sum(images)
