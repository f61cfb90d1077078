"""Members decoded where they were read: in threads, since the decoders release the GIL; in order; in bounded memory.

Nothing is ever unpickled: members in formats that can run code (.pkl, .pyd, .pth) have no decoder and stay bytes.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal, TypeVar

from tarloom.errors import RowError, TextError
from tarloom.format.cpus import cpu_share
from tarloom.read.chunk import Chunk
from tarloom.read.ledger import Skipped
from tarloom.read.pieces import MIB
from tarloom.read.view import DecodeAs

DECODED_BYTES = 64 * MIB
"""A chunk ends where it would grow beyond this, unless it is one row: a decoded picture is about ten times larger."""
AHEAD = 2
"""Rows decoded for every thread before the caller has taken the one in front of them."""

Form = Literal["batch", "sample"]
"""What chunks are to become: JSON is text in an Arrow batch, objects in a sample."""
Decoder = Callable[[Any], Any]
Row = tuple[str, Sequence[memoryview | None]]
"""A key, and the members that are to be decoded; None where it lacks one."""
Result = Sequence[Any] | Skipped
"""What they were decoded to, or what happened."""
Item = TypeVar("Item")
Made = TypeVar("Made")


def decoded(
    chunks: Iterable[Chunk], members: Mapping[str, DecodeAs], form: Form, *, url: str, threads: int | None = None
) -> Iterator[Chunk]:
    """The chunks of the tar at `url` with members decoded; rows where that failed are among `errors`.

    threads: by default this process's share of the CPUs; with one, the caller decodes.
    """
    decode = RowDecoder(members, form, url)
    threads = threads or cpu_share()
    threaded = threads > 1 and not {"rgb", "pil"}.isdisjoint(members.values())
    pool = ThreadPoolExecutor(threads, thread_name_prefix="tarloom-decode") if threaded else None
    try:
        for chunk in chunks:
            rows = _rows(chunk, decode.members)
            results = map(decode, rows) if pool is None else _in_order(pool, decode, rows, ahead=AHEAD * threads)
            yield from _gathered(chunk, decode.members, results)
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


class RowDecoder:
    """Decodes the members of a row. The first one that cannot be decoded is what happened to all of it."""

    def __init__(self, members: Mapping[str, DecodeAs], form: Form, url: str) -> None:
        self.members = tuple(members)
        self._decoders = [_decoder(decode_as, form) for decode_as in members.values()]
        self._url = url

    def __call__(self, row: Row) -> Result:
        key, values = row
        made = []
        for member, decoder, data in zip(self.members, self._decoders, values, strict=True):
            try:
                made.append(None if data is None else decoder(data))
            except RowError as error:
                return Skipped(where=self._url, key=key, name=error.name, reason=f"{member}: {error.reason}")
        return made


def parse_json(data: bytes | memoryview) -> Any:
    """What the JSON says, as Python reads it. Raises TextError bad_json."""
    return _parsed(data)[1]


def check_json(data: bytes | memoryview) -> str:
    """The JSON as it is written. Raises TextError bad_json."""
    return _parsed(data)[0]


def decode_text(data: bytes | memoryview) -> str:
    """Raises TextError bad_text."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise TextError("bad_text", f"the byte at {error.start} is not UTF-8") from error


def _parsed(data: bytes | memoryview) -> tuple[str, Any]:
    try:
        text = str(data, "utf-8-sig")
        return text, json.loads(text)
    except RecursionError as error:
        raise TextError("bad_json", "it is nested too deep") from error
    except ValueError as error:
        raise TextError("bad_json", f"the bytes are no JSON ({error})") from error


def _decoder(decode_as: DecodeAs, form: Form) -> Decoder:
    if decode_as == "text":
        return decode_text
    if decode_as == "json":
        return parse_json if form == "sample" else check_json
    from tarloom.read.decode import decode_pil, decode_rgb  # loads the codecs: only where pictures are decoded

    return decode_rgb if decode_as == "rgb" else decode_pil


def _rows(chunk: Chunk, members: Sequence[str]) -> Iterator[Row]:
    keys: list[str] = chunk.keys.to_pylist()  # type: ignore[assignment]
    columns = (chunk.members[member] for member in members)
    return zip(keys, zip(*columns, strict=True), strict=True)


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Item], Made], items: Iterable[Item], *, ahead: int
) -> Iterator[Made]:
    """What `work` makes of the items, in their order; so many are under way or waiting to be taken."""
    waiting: deque[Future[Made]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _gathered(chunk: Chunk, members: Sequence[str], results: Iterable[Result]) -> Iterator[Chunk]:
    """The chunk with what its rows were decoded to, in parts of bounded size."""
    first, size = 0, 0
    part: list[Result] = []
    for row, result in enumerate(results):
        weight = sum(len(values[row] or b"") for values in chunk.members.values()) + _size(result)
        if part and size + weight > DECODED_BYTES:
            yield _with(chunk.slice(first, row), members, part)
            first, size, part = row, 0, []
        part.append(result)
        size += weight
    if part:
        yield _with(chunk.slice(first, first + len(part)), members, part)


def _size(result: Result) -> int:
    """Bytes of the pictures in it; text and JSON are about as large as they were."""
    if isinstance(result, Skipped):
        return 0
    arrays: list[int] = [value.nbytes for value in result if hasattr(value, "nbytes")]
    images: list[int] = [4 * value.width * value.height for value in result if hasattr(value, "getbands")]
    return sum(arrays) + sum(images)


def _with(chunk: Chunk, members: Sequence[str], results: Sequence[Result]) -> Chunk:
    nothing = [None] * len(members)
    columns = zip(*(nothing if isinstance(result, Skipped) else result for result in results), strict=True)
    failed = {row: result for row, result in enumerate(results) if isinstance(result, Skipped)}
    made = dict(zip(members, map(list, columns), strict=True))
    return replace(chunk, members={**chunk.members, **made}, errors={**chunk.errors, **failed})
