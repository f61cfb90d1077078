"""From a member's bytes to what they mean. Nothing is ever unpickled: members in formats that can run code (.pkl, .pyd,
.pth) have no decoder and stay bytes."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from tarloom.errors import RowError, TextError
from tarloom.read.ledger import Skipped
from tarloom.read.view import DecodeAs

Form = Literal["batch", "sample"]
"""What rows are to become: JSON is text in an Arrow batch, objects in a sample."""
Decoder = Callable[[Any], Any]
Row = tuple[str, Sequence[memoryview | None]]
"""A key, and the members that are to be decoded; None where it lacks one."""
Result = Sequence[Any] | Skipped
"""What they were decoded to, or what happened."""
JSON_NULL: Final = object()
"""What the JSON null is decoded to for a sample, until it is made: None is a member that it lacks."""


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


def _parse_for_sample(data: bytes | memoryview) -> Any:
    value = parse_json(data)
    return JSON_NULL if value is None else value


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
        return _parse_for_sample if form == "sample" else check_json
    from tarloom.read.samples.decode import decode_pil, decode_rgb  # loads the codecs: only where pictures are decoded

    return decode_rgb if decode_as == "rgb" else decode_pil
