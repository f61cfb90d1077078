"""What a server sends, bounded before anything of it is believed: aiohttp's protocol with what it lacks.

Interim answers (1xx) end after a few. What surrounds a body (chunk sizes, their extensions, blocks of a compressor that
unfold to nothing) is counted too. And a fault in a body fails that body, in whatever packets it comes: aiohttp loses an
answer whose headers and fault arrive together, and leaves its reader waiting for the deadline where they do not.
"""

import asyncio
import re
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

MAX_INTERIM = 16
"""Interim answers (1xx) before the real one. Blank lines count as such."""
HEADERS = 256 << 10
"""Bytes of headers, those of interim answers included."""
FRAMING = 1 << 20
"""Bytes that may come besides twice the longest body."""
_BLANK = re.compile(rb"\n\r?\n")


class TooMuch(aiohttp.ClientPayloadError):
    """More came than a body of the longest length can need."""


class Answers(ResponseHandler):
    """The answers on one connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, max_bytes: int) -> None:
        super().__init__(loop)
        self._most = 2 * max_bytes + FRAMING
        self._answered = False
        self._begin()

    def _begin(self) -> None:
        self._came = 0
        self._blocks = 0
        self._in_headers = True
        self._before = b""

    @property
    def is_out_of_step(self) -> bool:
        """It has answered before, but not the last request."""
        return self._answered and self._in_headers

    def set_response_params(self, **options: Any) -> None:
        """A request was sent: its answer is awaited."""
        self._begin()
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        """Parse what came, headers by themselves: they are known before the body's first fault."""
        if data and not self._in_headers and (self._payload is None or self._payload.is_eof()):
            return self._hang_up()  # nobody asked for more
        self._came += len(data)
        start = 0
        while self._in_headers and self._exception is None and (end := self._end_of_headers(data, start)):
            self._blocks += 1
            if self._blocks > 1 + MAX_INTERIM:
                return self._fail(HttpProcessingError(message="too many interim answers"))
            self._parse(data[start:end])
            start = end
        if self._exception is None:
            self._parse(data[start:])
        if self._in_headers and self._came > HEADERS:
            self._fail(HttpProcessingError(message="the headers do not end"))
        elif self._came > self._most:
            self._fail(TooMuch("more bytes than any body needs"))

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take an answer's headers."""
        status = data[0].code
        self._in_headers = 100 <= status < 200 and status != 101
        self._answered = self._answered or not self._in_headers
        super().feed_data(data, size)

    def connection_lost(self, exc: BaseException | None) -> None:
        """A reset ends no body: one without a length ends where the server closes the connection."""
        if exc is not None and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(aiohttp.ClientPayloadError("the connection was lost"), exc)
        super().connection_lost(exc)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Whoever waits for headers gets the error."""
        if isinstance(exc, HttpProcessingError) and self.is_out_of_step:
            # Rather more of the last answer than a new one: aiohttp asks again, over a new connection.
            exc = aiohttp.ServerDisconnectedError()
        super().set_exception(exc, *cause)

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
        self._hang_up()

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def _end_of_headers(self, data: bytes, start: int) -> int:
        """Where headers end in what came, 0 if they go on. Their blank line may have begun in what came before."""
        if start == 0 and (split := _BLANK.search(self._before + data[:2])):
            end = split.end() - len(self._before)
        else:
            found = _BLANK.search(data, start)
            end = found.end() if found else 0
        self._before = b"" if end else (self._before + data[start:])[-2:]
        return end
