"""One request over HTTP and its answer, and nothing that is tried again or followed. The only file on aiohttp's client.

Every connection is opened by the guard's sockets, so it leads to no address that is not public. One deadline covers
look-up, connection, headers and body. Headers, and what a body may hold, are bounded.
"""

import asyncio
import re
import resource
import socket
import zlib
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver as Lookups
from multidict import CIMultiDictProxy
from yarl import URL

from tarloom.create.answers import Answers, TooMuch
from tarloom.create.encodings import Decoder
from tarloom.create.guard import LOOKUPS_AT_ONCE, Network, RefusedAddress, Resolver, guarded_socket, is_allowed
from tarloom.create.in_flight import PIECE, Place
from tarloom.create.lookups import SharedLookups
from tarloom.create.proxies import Proxies
from tarloom.errors import FetchError, UsageError

__all__ = ["Answer", "Headers", "Lookups", "Transport", "TransportOptions", "Unreachable"]

MAX_HEADER_BYTES = 32 * 1024
OTHER_FILES = 64
"""Open files of a worker besides its sockets."""
IDLE_CONNECTIONS = 512
"""Kept open for the next request to their host; those that waited longest are closed for new ones."""
IDLE_SECONDS = 15.0
MANY = 256
"""Connections; if there are more, each may receive less ahead."""
READ_AT_ONCE = 32 << 10
"""Bytes of a body that may wait to be taken; aiohttp stops reading at twice as many."""

NO_PROXY = "the proxy cannot be reached, or refuses"
_MAYBE_ADDRESS = re.compile(r":|(?:^|\.)(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?$", re.ASCII)
"""Hosts that some reader may take for an address."""

Headers = CIMultiDictProxy[str]
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
        self._guarded_socket = guarded_socket(options.allowed)

    async def __aenter__(self) -> Self:
        idle = allow_open_files(self._options.connections)
        self._lookups = self._options.lookups or SharedLookups(Resolver())
        self._direct = self._session(self._open_socket, idle)
        # Connects to the proxies alone, which are where the user says.
        self._proxied = self._session(None, idle) if self._options.proxies else None
        return self

    async def __aexit__(self, *failure: object) -> None:
        for session in (self._direct, self._proxied):
            if session is not None:
                await session.close()
        await self._lookups.close()

    def _session(self, socket_factory: Any, idle: int) -> aiohttp.ClientSession:
        connector = _Connector(
            limit=0,
            keepalive_timeout=IDLE_SECONDS,
            use_dns_cache=False,
            resolver=self._lookups,
            socket_factory=socket_factory,
        )
        connector.idle_at_most = idle
        connector.answer_with(partial(Answers, asyncio.get_running_loop(), self._options.max_bytes))
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

    def _open_socket(self, info: Any) -> socket.socket:
        opened: socket.socket = self._guarded_socket(info)
        if self._options.connections > MANY:  # together they could hold more than the memory for bodies
            opened.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, max(PIECE, MANY * 4 * PIECE // self._options.connections)
            )
        return opened

    async def get(self, url: URL, *, seconds: float, max_bytes: int, place: Place, check: Check) -> Answer:
        """The answer to one GET. Raises FetchError; Unreachable if no connection came about."""
        phase = _Phase()
        _phase.set(phase)
        try:
            async with asyncio.timeout(seconds):
                return await self._get(url, max_bytes, place, check)
        except TimeoutError as error:
            kind = FetchError if phase.connected else Unreachable
            raise kind("timeout", "not complete within the timeout", transient=True) from error
        except (aiohttp.ClientError, OSError, UnicodeError, zlib.error) as error:
            raise name_error(error) from error

    async def _get(self, url: URL, max_bytes: int, place: Place, check: Check) -> Answer:
        proxy = self._options.proxies.of(url)
        if proxy is None or self._proxied is None:
            return await _answer(self._direct.get(url, allow_redirects=False), max_bytes, place, check)
        await self._refuse_private(url)
        try:
            return await _answer(self._proxied.get(url, allow_redirects=False, proxy=proxy), max_bytes, place, check)
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


async def _answer(asked: Any, max_bytes: int, place: Place, check: Check) -> Answer:
    """asked: aiohttp's request, to be entered."""
    async with asked as response:
        check(response.status, response.headers)
        body = await _body(response, max_bytes, place) if response.status == 200 else b""
        return Answer(status=response.status, headers=response.headers, body=body)


class _Phase:
    """How far a request got."""

    connected = False


_phase: ContextVar[_Phase] = ContextVar("phase")


class _Connector(aiohttp.TCPConnector):
    """Notes that a connection came about, and bounds those that lie idle."""

    idle_at_most = IDLE_CONNECTIONS
    look_every = 64
    """Connections given back between two looks at how many lie idle."""
    _released = 0

    def answer_with(self, protocol: Callable[[], Answers]) -> None:
        """Let this protocol read what comes on new connections."""
        self._factory = protocol  # type: ignore[assignment]

    async def connect(self, *args: Any, **options: Any) -> aiohttp.connector.Connection:
        connection = await super().connect(*args, **options)
        _phase.get().connected = True
        return connection

    def _release(self, key: Any, protocol: Any, **options: Any) -> None:
        super()._release(key, protocol, **options)
        if protocol.was_out_of_step:
            for other, _ in self._conns.pop(key, ()):
                other.close()
        self._released += 1
        if self._released % self.look_every == 0:
            self._close_idle()

    def _close_idle(self) -> None:
        """The hosts that were not asked for the longest time come first in aiohttp's table."""
        surplus = sum(map(len, self._conns.values())) - self.idle_at_most
        while surplus > 0:
            oldest = self._conns.pop(next(iter(self._conns)))
            surplus -= len(oldest)
            for protocol, _ in oldest:
                protocol.close()


async def _body(response: aiohttp.ClientResponse, max_bytes: int, place: Place) -> bytes:
    if (response.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    decoder = Decoder(response.headers.get("Content-Encoding", ""))
    pieces: list[bytes] = []
    size = 0
    try:
        while data := await response.content.readany():
            for piece in decoder.pieces(data):
                size += len(piece)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                pieces.append(piece)
                if size > place.size and not place.hold(size):
                    await _pause(response, place)
        decoder.end()
        return b"".join(pieces)
    finally:
        pieces.clear()  # an error's traceback would keep them


async def _pause(response: aiohttp.ClientResponse, place: Place) -> None:
    """Read nothing until there is room."""
    protocol = response.connection.protocol if response.connection else None
    if protocol is not None:
        protocol.pause_reading()
    await place.room()
    if protocol is not None and protocol.connected:
        protocol.resume_reading()


def _too_large(max_bytes: int) -> FetchError:
    return FetchError("too_large", f"the body is longer than {max_bytes} bytes")


def allow_open_files(downloads: int) -> int:
    """Make room for the sockets of so many downloads: rows must not fail for a limit of this machine.

    Returns how many idle connections there is room for besides. Raises UsageError where there is too little room.
    """
    needed = downloads + LOOKUPS_AT_ONCE + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != hard < needed:
        raise UsageError(
            f"{downloads} downloads at once need {needed} open files, but {hard} are allowed; "
            "lower thread_count or raise ulimit -n"
        )
    wanted = needed + IDLE_CONNECTIONS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if resource.RLIM_INFINITY != soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted - needed


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
    ((aiohttp.InvalidURL, UnicodeError), "bad_url", "not a valid URL", False),
    (
        (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError),
        "proxy",
        NO_PROXY,
        True,
    ),
    (TooMuch, "too_large", "what came is longer than any body may be", False),
    (
        (aiohttp.ClientPayloadError, zlib.error),
        "body_cut_short",
        "the body ended early or is not as its headers say",
        True,
    ),
    (aiohttp.ClientResponseError, "bad_response", "the answer is not HTTP", False),
    ((aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch), "tls", "no trusted TLS connection", False),
)
