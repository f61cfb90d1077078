"""What a server sends, bounded before anything of it is believed: aiohttp's protocol with what it lacks.

Interim answers (1xx) end after a few. What surrounds a body (chunk sizes, their extensions, blocks of a compressor that
unfold to nothing) is counted too. And a fault in a body fails that body, in whatever packets it comes: aiohttp loses an
answer whose headers and fault arrive together, and leaves its reader waiting for the deadline where they do not.
"""

import asyncio
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

MAX_INTERIM = 16
"""Interim answers (1xx) before the real one."""
FRAMING = 1 << 20
"""Bytes that may come besides twice the longest body."""


class TooMuch(aiohttp.ClientPayloadError):
    """More came than a body of the longest length can need."""


class Answers(ResponseHandler):
    """The answers on one connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, max_bytes: int) -> None:
        super().__init__(loop)
        self._most = 2 * max_bytes + FRAMING
        self._begin()

    def _begin(self) -> None:
        self._came = 0
        self._interim = 0
        self._in_headers = True
        self._before = b""

    def set_response_params(self, **options: Any) -> None:
        """A request was sent: its answer is awaited."""
        self._begin()
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        """Parse what came, headers by themselves: they are known before the body's first fault."""
        self._came += len(data)
        while self._in_headers and (end := self._end_of_headers(data)) and self._exception is None:
            self._parse(data[:end])
            data = data[end:]
        if self._exception is None:
            self._parse(data)
        if self._came > self._most:
            self._fail(TooMuch("more bytes than any body needs"))

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take an answer's headers."""
        self._interim += 1
        if self._interim > MAX_INTERIM:
            return self._fail(HttpProcessingError(message="too many interim answers"))
        status = data[0].code
        self._in_headers = 100 <= status < 200 and status != 101
        super().feed_data(data, size)

    def _parse(self, data: bytes) -> None:
        super().data_received(data)
        if self._exception is not None:
            self._fail(aiohttp.ClientPayloadError("not encoded as announced"))

    def _fail(self, error: Exception) -> None:
        """Whoever waits for headers or body gets the error, and no more is read."""
        if self._exception is None:
            self.set_exception(error)
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(error)
        self._payload = None  # else the connection's end would be its error
        if self.transport is not None:
            self.transport.close()

    def _end_of_headers(self, data: bytes) -> int:
        """How many of the bytes belong to headers that end in them, 0 if none end."""
        joined = self._before + data
        places = [at + len(blank) for blank in (b"\n\r\n", b"\n\n") if (at := joined.find(blank)) >= 0]
        end = min(places, default=0) - len(self._before)
        self._before = b"" if end > 0 else joined[-2:]
        return max(0, end)
