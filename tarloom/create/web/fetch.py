"""Bytes behind a URL. Every failure is a FetchError with one of a few names (docs/errors.md).

One deadline covers the whole of a try: name look-up, connection, redirects, headers and body, but not the waits for its
turn. Failures that may pass are tried again after a growing, jittered pause; the others are final at once. Each request
waits for its host (hosts.py), then for a place among all tries (in_flight.py).
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Self, TypeVar

from yarl import URL

from tarloom.create.config import ConsentOptions, WebOptions
from tarloom.create.rows import FetchedBytes, Row
from tarloom.create.web.consent import Consent, honest_user_agent
from tarloom.create.web.guard import parse_networks
from tarloom.create.web.hosts import GivenUp, HostLimits, Hosts
from tarloom.create.web.in_flight import InFlight
from tarloom.create.web.proxies import checked_proxies
from tarloom.create.web.transient import TRANSIENT_STATUSES
from tarloom.create.web.transport import Answer, Check, Headers, Lookups, Transport, TransportOptions, Unreachable
from tarloom.create.web.urls import origin_of, parse_url, redirected
from tarloom.errors import FetchError

THROTTLING_STATUSES = frozenset({429, 503})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
FIRST_PAUSE = 0.5
"""Seconds before the first retry; each further pause is twice as long."""
BODIES_AT_MOST = 128 << 20
"""Bytes of all bodies under way; the oldest try may go beyond it."""

Done = TypeVar("Done")


@dataclass(frozen=True, kw_only=True)
class _Want:
    """What is fetched, and what holds for it."""

    max_bytes: int
    max_redirects: int
    check_of: Callable[[URL], Awaitable[Check]]
    """Asked before each URL; what it returns is held against the answer's headers."""


class WebFetcher:
    """Fetches URLs over one pool of connections. An asynchronous context manager."""

    def __init__(
        self,
        options: WebOptions,
        consent: ConsentOptions | None = None,
        *,
        lookups: Lookups | None = None,
        room: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """lookups: who looks names up, if not this machine. room: awaited before an answer is handed on and its place
        given to the next."""
        self._options = options
        self._room = room
        self._consent_options = consent or ConsentOptions()
        self._transport = Transport(
            TransportOptions(
                user_agent=honest_user_agent(options.user_agent, self._consent_options.user_agent_token),
                allowed=parse_networks(options.allow_private),
                proxies=checked_proxies(),
                connections=options.thread_count,
                max_bytes=options.max_bytes,
                lookups=lookups,
            )
        )

    async def __aenter__(self) -> Self:
        options = self._options
        self._in_flight = InFlight(tries=options.thread_count, bytes_at_most=BODIES_AT_MOST)
        self._hosts = Hosts(
            HostLimits(connections=options.host_connections, rate=options.host_rate, longest_pause=options.max_wait)
        )
        self._consent = Consent(self._consent_options, self._ask)
        self._picture = _Want(
            max_bytes=options.max_bytes, max_redirects=options.max_redirects, check_of=self._consent.check_of
        )
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._consent.close()
        await self._transport.__aexit__(*failure)

    async def fetch(self, row: Row) -> FetchedBytes:
        """The body behind the row's URL. Raises FetchError when all tries failed."""
        url = parse_url(row.url)
        answer = await self._with_retries(lambda: self._follow(url, self._picture))
        if answer.status != HTTPStatus.OK:
            raise _status_error(answer.status)
        if not answer.body:
            raise FetchError("empty_body", "the server sent no bytes")
        return FetchedBytes(data=answer.body)

    async def _ask(self, url: URL) -> Answer:
        """A small file that says what the owners of a host want."""
        return await self._with_retries(lambda: self._follow(url, _SMALL_FILE))

    async def _with_retries(self, attempt_once: Callable[[], Awaitable[Done]]) -> Done:
        for attempt in range(self._options.retries + 1):
            try:
                return await attempt_once()
            except GivenUp as given_up:
                error = given_up.error
                raise FetchError(error.name, error.reason, transient=error.transient) from None
            except FetchError as error:
                if attempt == self._options.retries or not error.transient:
                    raise
                await asyncio.sleep(pause_before_retry(attempt, self._options.max_wait))
        raise AssertionError("unreachable")

    async def _follow(self, url: URL, want: _Want) -> Answer:
        """One try: the answer at the end of the redirects. Raises FetchError, also for statuses that may pass."""
        left = self._options.timeout
        for _ in range(want.max_redirects + 1):
            check = await want.check_of(url)
            answer, took = await self._request(url, left, want.max_bytes, check)
            left -= took
            if answer.status in TRANSIENT_STATUSES:
                raise _status_error(answer.status)
            location = answer.headers.get("Location")
            if answer.status not in REDIRECTS or not location:
                return answer
            url = redirected(url, location)
        raise FetchError("too_many_redirects", "the redirects do not end")

    async def _request(self, url: URL, seconds: float, max_bytes: int, check: Check) -> tuple[Answer, float]:
        """One answer and the seconds that it took, once it is its host's turn and there is a place."""
        async with self._hosts.of(origin_of(url)) as host, self._in_flight.place() as place:
            started = time.monotonic()

            def seen(status: int, headers: Headers) -> None:
                asked = seconds_asked_for(headers.get("Retry-After")) if status in THROTTLING_STATUSES else 0
                if asked:
                    host.throttled(_status_error(status), asked)
                else:
                    host.answered()
                check(status, headers)

            try:
                answer = await self._transport.get(url, seconds=seconds, max_bytes=max_bytes, place=place, check=seen)
            except Unreachable as error:
                if error.name != "timeout" or seconds == self._options.timeout:  # else those before it were slow
                    host.unreachable(error)
                raise
            took = time.monotonic() - started
            if self._room is not None:
                await self._room()
            return answer, took


async def _no_check(url: URL) -> Check:
    return lambda status, headers: None


_SMALL_FILE = _Want(max_bytes=8 << 20, max_redirects=5, check_of=_no_check)


def pause_before_retry(attempt: int, longest: float) -> float:
    """Seconds to wait after failed try number `attempt` (from 0): twice as long each time, jittered, capped."""
    growing: float = FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1)
    return min(growing, longest)


def seconds_asked_for(retry_after: str | None) -> float:
    """The pause that a Retry-After header asks for, a number of seconds or a date; 0 where it cannot be read."""
    if not retry_after:
        return 0
    try:
        if retry_after.strip().isdecimal():
            return float(retry_after)
        date = parsedate_to_datetime(retry_after)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)  # one form of HTTP's dates names no zone
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0


def _status_error(status: int) -> FetchError:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "unknown status"
    return FetchError(f"http_{status}", phrase, transient=status in TRANSIENT_STATUSES)
