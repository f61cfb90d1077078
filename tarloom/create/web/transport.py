"""One request over HTTP and its answer, and nothing that is tried again or followed. Stands on aiohttp's client.

Every connection is opened by the guard's sockets, so it leads to no address that is not public. One deadline covers
look-up, connection, headers and body. Headers, and what a body may hold, are bounded.
"""

import asyncio
import re
import socket
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDictProxy
from yarl import URL

from tarloom.create.web.answers import Answers, TooMuch
from tarloom.create.web.connections import Connector, OpenSocket, allow_open_files, any_socket, begin_request
from tarloom.create.web.encodings import Decoder
from tarloom.create.web.guard import Network, RefusedAddress, guarded_socket, is_allowed
from tarloom.create.web.in_flight import PIECE, Place
from tarloom.create.web.lookups import Resolver, SharedLookups
from tarloom.create.web.proxies import Proxies
from tarloom.errors import FetchError

MAX_HEADER_BYTES = 32 * 1024
READ_AT_ONCE = 32 << 10
"""Bytes of a body that may wait to be taken; aiohttp stops reading at twice as many."""

NO_PROXY = "the proxy cannot be reached, or refuses"
_MAYBE_ADDRESS = re.compile(r":|(?:^|\.)(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?$", re.ASCII)
"""Hosts that some reader may take for an address."""

Headers = CIMultiDictProxy[str]
Lookups = AbstractResolver
Check = Callable[[int, Headers], None]
"""Looks at status and headers before the body is read; raises FetchError where the body is not wanted."""


class Unreachable(FetchError):
    """No connection to the host came about. What is unreachable for one row of a host is so for all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a server answered. The body is empty unless the status is 200."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, kw_only=True)
class TransportOptions:
    """What holds for all requests."""

    user_agent: str
    allowed: tuple[Network, ...]
    """Networks that are not public but may be connected to."""
    proxies: Proxies
    connections: int
    """In use at once."""
    max_bytes: int
    """Of the longest body; no answer is read much further."""
    lookups: Lookups | None = None
    """Who looks names up, if not this machine."""


class Transport:
    """Sends requests over one pool of connections. An asynchronous context manager."""

    def __init__(self, options: TransportOptions) -> None:
        self._options = options

    async def __aenter__(self) -> Self:
        idle = allow_open_files(self._options.connections)
        self._lookups = self._options.lookups or SharedLookups(Resolver())
        self._direct = self._session(guarded_socket(self._options.allowed), idle)
        # Connects to the proxies alone, which are where the user says.
        self._proxied = self._session(any_socket, idle) if self._options.proxies else None
        return self

    async def __aexit__(self, *failure: object) -> None:
        for session in (self._direct, self._proxied):
            if session is not None:
                await session.close()
        await self._lookups.close()

    def _session(self, open_socket: OpenSocket, idle: int) -> aiohttp.ClientSession:
        connector = Connector(
            open_socket,
            self._lookups,
            connections=self._options.connections,
            idle=idle,
            protocol=partial(Answers, asyncio.get_running_loop(), self._options.max_bytes),
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            headers={
                "User-Agent": self._options.user_agent,
                "Accept": "image/*,*/*;q=0.5",
                "Accept-Encoding": "identity",
            },
            auto_decompress=False,
            read_bufsize=READ_AT_ONCE,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
        )

    async def get(self, url: URL, *, seconds: float, max_bytes: int, place: Place, check: Check) -> Answer:
        """The answer to one GET. Raises FetchError; Unreachable if no connection came about."""
        progress = begin_request()
        try:
            async with asyncio.timeout(seconds) as deadline:
                bounds = _Bounds(max_bytes=max_bytes, place=place, deadline=deadline)
                return await self._get(url, bounds, check)
        except TimeoutError as error:
            kind = FetchError if progress.connected else Unreachable
            raise kind("timeout", "not complete within the timeout", transient=True) from error
        except (aiohttp.ClientError, OSError, ValueError, zlib.error) as error:
            raise name_error(error) from error

    async def _get(self, url: URL, bounds: "_Bounds", check: Check) -> Answer:
        proxy = self._options.proxies.of(url)
        if proxy is None or self._proxied is None:
            return await _answer(self._direct.get(url, allow_redirects=False), bounds, check)
        await self._refuse_private(url)
        try:
            return await _answer(self._proxied.get(url, allow_redirects=False, proxy=proxy), bounds, check)
        except aiohttp.ClientConnectorDNSError as error:  # it was the proxy's name that was looked up
            raise Unreachable("proxy", NO_PROXY, transient=True) from error

    async def _refuse_private(self, url: URL) -> None:
        """What a proxy is asked for must be public as far as can be seen here. A name without an address here is the
        proxy's to look up, but no number is."""
        host = url.raw_host or ""
        try:
            found = await self._lookups.resolve(host)
        except OSError:
            if _MAYBE_ADDRESS.search(host):
                raise RefusedAddress from None
            return
        if not all(is_allowed(answer["host"], self._options.allowed) for answer in found):
            raise RefusedAddress


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bounds:
    """What holds for one answer."""

    max_bytes: int
    place: Place
    deadline: asyncio.Timeout

    def seconds_left(self) -> float:
        """Until the deadline, as long as that does not wait."""
        return (self.deadline.when() or 0) - asyncio.get_running_loop().time()


async def _answer(asked: Any, bounds: _Bounds, check: Check) -> Answer:
    """asked: aiohttp's request, to be entered."""
    async with asked as response:
        check(response.status, response.headers)
        body = await _body(response, bounds) if response.status == 200 else b""
        return Answer(status=response.status, headers=response.headers, body=body)


async def _body(response: aiohttp.ClientResponse, bounds: _Bounds) -> bytes:
    max_bytes = bounds.max_bytes
    announced = response.content_length or 0
    if announced > max_bytes:
        raise _too_large(max_bytes)
    decoder = Decoder(",".join(response.headers.getall("Content-Encoding", ())))
    pieces: list[bytes] = []
    size = 0
    try:
        while data := await response.content.readany():
            for piece in decoder.pieces(data):
                size += len(piece)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                pieces.append(piece)
                if size > bounds.place.size:
                    await _make_room(response, bounds, size, announced - size)
        decoder.end()
        return b"".join(pieces)
    finally:
        pieces.clear()  # an error's traceback would keep them


async def _make_room(response: aiohttp.ClientResponse, bounds: _Bounds, size: int, rest: int) -> None:
    """For what has come, and as much again of what is still to come: a body that hardly comes holds up no others."""
    more = max(0, min(rest, size))
    if not bounds.place.hold(size):
        await _pause(response, bounds, more or PIECE)
    elif more and not bounds.place.take(more):
        await _pause(response, bounds, more)


async def _pause(response: aiohttp.ClientResponse, bounds: _Bounds, more: int) -> None:
    """Read nothing until there is room for more, and let the deadline wait too: it is not the server that is slow."""
    protocol = response.connection.protocol if response.connection else None
    if protocol is not None:
        protocol.pause_reading()
    left = bounds.seconds_left()
    bounds.deadline.reschedule(None)
    await bounds.place.room(more)
    bounds.deadline.reschedule(asyncio.get_running_loop().time() + left)
    if protocol is not None and protocol.connected:
        protocol.resume_reading()


def _too_large(max_bytes: int) -> FetchError:
    return FetchError("too_large", f"the body is longer than {max_bytes} bytes")


def name_error(error: Exception) -> FetchError:
    """The stable name for what aiohttp raised. Texts hold no address, port or time: they are part of the output."""
    if isinstance(error, RefusedAddress) or isinstance(getattr(error, "os_error", None), RefusedAddress):
        return FetchError("refused_private_address", "the host is not public; see --allow-private")
    for kinds, name, message, transient in _NAMES:
        if isinstance(error, kinds):
            kind = Unreachable if isinstance(error, aiohttp.ClientConnectorError) else FetchError
            return kind(name, message, transient=transient)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        again = error.os_error.errno == socket.EAI_AGAIN
        return Unreachable("dns", "the host has no address", transient=again)
    kind = Unreachable if isinstance(error, aiohttp.ClientConnectorError) else FetchError
    return kind("connect", "no connection, or it was lost", transient=True)


_NAMES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str, bool], ...] = (
    (aiohttp.InvalidURL, "bad_url", "not a valid URL", False),
    ((aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError), "proxy", NO_PROXY, True),
    (TooMuch, "too_large", "what came is longer than any body may be", False),
    (
        (aiohttp.ClientPayloadError, zlib.error),
        "body_cut_short",
        "the body ended early or is not as its headers say",
        True,
    ),
    (aiohttp.ClientResponseError, "bad_response", "the answer is not HTTP", False),
    ((aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch), "tls", "no trusted TLS connection", False),
    (ValueError, "bad_url", "not a valid URL", False),  # last: errors of certificates are such, too
)
