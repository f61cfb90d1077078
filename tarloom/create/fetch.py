"""Bytes behind a URL. Every failure is a FetchError with one of a few names (docs/errors.md).

One deadline covers the whole of a try: name look-up, connection, redirects, headers and body. Failures that may pass
are tried again after a growing, jittered pause; the others are final at once.
"""

import asyncio
import random
import resource
import socket
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Self

import aiohttp
from yarl import URL

from tarloom.create.config import WebOptions
from tarloom.create.guard import LOOKUPS_AT_ONCE, RefusedAddress, Resolver, guarded_socket, parse_networks
from tarloom.create.rows import Fetched, Row
from tarloom.errors import FetchError, UsageError

SCHEMES = ("http", "https")
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
FIRST_PAUSE = 0.5
"""Seconds before the first retry; each further pause is twice as long."""
MAX_HEADER_BYTES = 32 * 1024
OTHER_FILES = 64
"""Open files of a worker besides its sockets."""


class WebFetcher:
    """Fetches URLs over one pool of connections. An asynchronous context manager."""

    def __init__(self, options: WebOptions) -> None:
        self._options = options
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        _allow_open_files(self._options.thread_count)
        connector = aiohttp.TCPConnector(
            limit=0,
            ttl_dns_cache=300,
            dns_cache_max_size=10_000,
            resolver=Resolver(),
            socket_factory=guarded_socket(parse_networks(self._options.allow_private)),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            headers={"User-Agent": self._options.user_agent, "Accept": "image/*,*/*;q=0.5"},
            skip_auto_headers=("Accept-Encoding",),
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
        )
        return self

    async def __aexit__(self, *failure: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(self, row: Row) -> Fetched:
        """The body behind the row's URL. Raises FetchError when all tries failed."""
        url = check_url(row.url)
        for attempt in range(self._options.retries + 1):
            try:
                return Fetched(data=await self._within_deadline(url))
            except _Failure as failure:
                if attempt == self._options.retries or not failure.error.transient:
                    raise failure.error from failure.__cause__
                await asyncio.sleep(pause_before_retry(attempt, failure.retry_after, self._options.max_wait))
        raise AssertionError("unreachable")

    async def _within_deadline(self, url: URL) -> bytes:
        try:
            async with asyncio.timeout(self._options.timeout):
                return await self._try(url)
        except TimeoutError as error:
            raise _Failure(FetchError("timeout", "not complete within the timeout", transient=True)) from error
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            raise _Failure(name_error(error)) from error

    async def _try(self, url: URL) -> bytes:
        assert self._session is not None, "use as a context manager"
        async with self._session.get(url, max_redirects=self._options.max_redirects) as response:
            if response.status != HTTPStatus.OK:
                raise _status_failure(response.status, response.headers.get("Retry-After"))
            return await self._body(response)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        limit = self._options.max_bytes
        too_large = _Failure(FetchError("too_large", f"the body is longer than {limit} bytes"))
        if (response.content_length or 0) > limit:
            raise too_large
        chunks, size = [], 0
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise too_large
        if not size:
            raise _Failure(FetchError("empty_body", "the server sent no bytes"))
        return b"".join(chunks)


def _allow_open_files(downloads: int) -> None:
    """Make room for the sockets of so many downloads: rows must not fail for a limit of this machine.

    Raises UsageError where there is none to be had.
    """
    needed = downloads + LOOKUPS_AT_ONCE + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != hard < needed:
        raise UsageError(
            f"{downloads} downloads at once need {needed} open files, but {hard} are allowed; "
            "lower thread_count or raise ulimit -n"
        )
    if resource.RLIM_INFINITY != soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class _Failure(Exception):
    """One try failed, and how long the server asks to wait."""

    def __init__(self, error: FetchError, retry_after: float = 0) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


def check_url(url: str | None) -> URL:
    """The URL parsed. Raises FetchError bad_url or scheme_refused."""
    if not url:
        raise FetchError("bad_url", "the row has no URL")
    try:
        parsed = URL(url.strip())
        host = parsed.host  # decoded only here, where it is international
    except ValueError as error:
        raise FetchError("bad_url", "not a valid URL") from error
    if parsed.scheme not in SCHEMES:
        raise FetchError("scheme_refused" if parsed.scheme else "bad_url", "only http and https are fetched")
    if not host:
        raise FetchError("bad_url", "the URL has no host")
    return parsed


def pause_before_retry(attempt: int, retry_after: float, longest: float) -> float:
    """Seconds to wait after failed try number `attempt` (from 0): twice as long each time, jittered, capped."""
    growing: float = FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1)
    return min(max(growing, retry_after), longest)


def name_error(error: Exception) -> FetchError:
    """The stable name for what aiohttp raised. Texts hold no address, port or time: they are part of the output."""
    cause = getattr(error, "os_error", None)
    if isinstance(cause, RefusedAddress):
        return FetchError("refused_private_address", "the host is not public; see --allow-private")
    for kinds, name, message, transient in _NAMES:
        if isinstance(error, kinds):
            return FetchError(name, message, transient=transient)
    if isinstance(cause, socket.gaierror):
        return FetchError("dns", "the host has no address", transient=cause.errno == socket.EAI_AGAIN)
    return FetchError("connect", "no connection, or it was lost", transient=True)


_NAMES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str, bool], ...] = (
    (aiohttp.NonHttpUrlClientError, "scheme_refused", "only http and https are fetched", False),
    ((aiohttp.InvalidURL, UnicodeError), "bad_url", "not a valid URL", False),
    (aiohttp.TooManyRedirects, "too_many_redirects", "the redirects do not end", False),
    (aiohttp.ClientPayloadError, "body_cut_short", "the body ended early or is not as its headers say", True),
    (aiohttp.ClientResponseError, "bad_response", "the answer is not HTTP", False),
    ((aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch), "tls", "no trusted TLS connection", False),
)


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
