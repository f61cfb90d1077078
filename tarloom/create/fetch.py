"""Bytes behind a URL. Every failure is a FetchError with one of a few names (docs/errors.md).

One deadline covers the whole of a try: name look-up, connection, redirects, headers and body. Failures that may pass
are tried again after a growing, jittered pause; the others are final at once.
"""

import asyncio
import random
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Self

from yarl import URL

from tarloom.create.config import WebOptions
from tarloom.create.guard import parse_networks
from tarloom.create.in_flight import InFlight
from tarloom.create.proxies import proxies_of_environment
from tarloom.create.rows import Fetched, Row
from tarloom.create.transport import Answer, Headers, Lookups, Transport, TransportOptions
from tarloom.create.urls import parse_url, redirected
from tarloom.errors import FetchError

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
FIRST_PAUSE = 0.5
"""Seconds before the first retry; each further pause is twice as long."""
BODIES_AT_MOST = 192 << 20
"""Bytes of all bodies under way; the oldest try may go beyond it."""


class WebFetcher:
    """Fetches URLs over one pool of connections. An asynchronous context manager."""

    def __init__(self, options: WebOptions, *, lookups: Lookups | None = None) -> None:
        """lookups: who looks names up, if not this machine."""
        self._options = options
        self._transport = Transport(
            TransportOptions(
                user_agent=options.user_agent,
                allowed=parse_networks(options.allow_private),
                proxies=proxies_of_environment(),
                connections=options.thread_count,
                lookups=lookups,
            )
        )

    async def __aenter__(self) -> Self:
        self._in_flight = InFlight(tries=self._options.thread_count, bytes_at_most=BODIES_AT_MOST)
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._transport.__aexit__(*failure)

    async def fetch(self, row: Row) -> Fetched:
        """The body behind the row's URL. Raises FetchError when all tries failed."""
        url = parse_url(row.url)
        for attempt in range(self._options.retries + 1):
            try:
                return Fetched(data=await self._try(url))
            except _Failure as failure:
                if attempt == self._options.retries or not failure.error.transient:
                    raise failure.error from failure.__cause__
                await asyncio.sleep(pause_before_retry(attempt, failure.retry_after, self._options.max_wait))
            except FetchError as error:
                if attempt == self._options.retries or not error.transient:
                    raise
                await asyncio.sleep(pause_before_retry(attempt, 0, self._options.max_wait))
        raise AssertionError("unreachable")

    async def _try(self, url: URL) -> bytes:
        left = self._options.timeout
        for _ in range(self._options.max_redirects + 1):
            async with self._in_flight.place() as place:
                started = time.monotonic()
                answer = await self._transport.get(
                    url, seconds=left, max_bytes=self._options.max_bytes, place=place, check=_any_answer
                )
                left -= time.monotonic() - started
            location = answer.headers.get("Location")
            if answer.status not in REDIRECTS or not location:
                return _body(answer)
            url = redirected(url, location)
        raise FetchError("too_many_redirects", "the redirects do not end")


class _Failure(Exception):
    """One try failed, and how long the server asks to wait."""

    def __init__(self, error: FetchError, retry_after: float = 0) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


def _any_answer(status: int, headers: Headers) -> None:
    pass


def _body(answer: Answer) -> bytes:
    if answer.status != HTTPStatus.OK:
        raise _status_failure(answer.status, answer.headers.get("Retry-After"))
    if not answer.body:
        raise FetchError("empty_body", "the server sent no bytes")
    return answer.body


def pause_before_retry(attempt: int, retry_after: float, longest: float) -> float:
    """Seconds to wait after failed try number `attempt` (from 0): twice as long each time, jittered, capped."""
    growing: float = FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1)
    return min(max(growing, retry_after), longest)


def _status_failure(status: int, retry_after: str | None) -> _Failure:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "unknown status"
    error = FetchError(f"http_{status}", phrase, transient=status in TRANSIENT_STATUSES)
    return _Failure(error, seconds_asked_for(retry_after))


def seconds_asked_for(retry_after: str | None) -> float:
    """The pause that a Retry-After header asks for, a number of seconds or a date; 0 where it cannot be read."""
    if not retry_after:
        return 0
    try:
        if retry_after.strip().isdecimal():
            return float(retry_after)
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0
