"""The elements of one long JSON array, parsed while it is read: no more of it is held than its longest element."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from tarloom.create.sources.inputs import InputFile, chunks
from tarloom.errors import UsageError

LONGEST_ELEMENT = 64 << 20
"""Characters; what is longer, and is no whole element yet, is taken for damage."""
_BLANKS = re.compile(r"[ \t\r\n]*")


def elements(file: InputFile) -> Iterator[list[Any]]:
    """The array's elements, in lists. Raises UsageError at the place where it is no JSON."""
    parser = _Parser(file)
    for text in codecs.iterdecode(chunks(file), "utf-8-sig", "replace"):
        yield parser.feed(text)
    parser.end()


class _Parser:
    def __init__(self, file: InputFile) -> None:
        self._file = file
        self._decoder = json.JSONDecoder()
        self._text = ""
        """What is not parsed yet."""
        self._due = "["
        """What must come next: the array's start, an element (or, at first, the end), a comma or the end, nothing."""

    def feed(self, text: str) -> list[Any]:
        """The elements that are whole with this text."""
        found: list[Any] = []
        text, place = self._text + text, 0
        while (place := _behind_blanks(text, place)) < len(text):
            try:
                place = self._step(text, place, found)
            except (ValueError, RecursionError) as error:
                if len(text) - place > LONGEST_ELEMENT:
                    raise self._broken() from error
                break
        self._text = text[place:]
        return found

    def end(self) -> None:
        """Check that the array has ended."""
        if self._due or self._text:
            raise self._broken()

    def _step(self, text: str, place: int, found: list[Any]) -> int:
        """Take what comes next; the place behind it. Raises ValueError where that is not whole, or is no JSON."""
        letter = text[place]
        if letter == "]" and self._due in ("first", ","):
            self._due = ""
        elif letter == self._due:
            self._due = "first" if letter == "[" else "element"
        elif self._due in ("first", "element"):
            value, place = self._decoder.raw_decode(text, place)
            behind = _behind_blanks(text, place)
            if text[behind : behind + 1] not in (",", "]"):
                raise ValueError("a number may go on")
            found.append(value)
            self._due = ","
            return place
        else:
            raise self._broken()
        return place + 1

    def _broken(self) -> UsageError:
        return UsageError(f"{self._file.where}: neither JSON lines nor one JSON array of objects")


def _behind_blanks(text: str, place: int) -> int:
    found = _BLANKS.match(text, place)
    assert found is not None, "none at all are blanks, too"
    return found.end()
