"""The pool of connections: used again, bounded while they lie idle, and with room for all in the machine's limits."""

import resource
import socket
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver

from tarloom.create.web.answers import Answers
from tarloom.create.web.in_flight import PIECE
from tarloom.create.web.lookups import LOOKUPS_AT_ONCE
from tarloom.errors import UsageError

OTHER_FILES = 64
"""Open files of a worker besides its sockets."""
IDLE_CONNECTIONS = 512
"""Kept open for the next request to their host; those that waited longest are closed for new ones."""
IDLE_SECONDS = 15.0
LOOK_EVERY = 64
"""Connections given back between two looks at how many lie idle."""
AHEAD_AT_MOST = 64 << 20
"""Bytes that all connections together may receive before they are read."""
AHEAD_ALONE = 256 << 10
"""Connections that may receive so much each are left to the system, which may give them more."""

OpenSocket = Callable[[Any], socket.socket]
"""Opens a socket for what socket.getaddrinfo returns."""


class Progress:
    """How far a request got."""

    connected = False


_progress: ContextVar[Progress] = ContextVar("progress")


def begin_request() -> Progress:
    """The progress of the request that this task makes next."""
    progress = Progress()
    _progress.set(progress)
    return progress


class Connector(aiohttp.TCPConnector):
    """Notes that a connection came about, and bounds those that lie idle."""

    def __init__(
        self,
        open_socket: OpenSocket,
        lookups: AbstractResolver,
        *,
        connections: int,
        idle: int,
        protocol: Callable[[], Answers],
    ) -> None:
        """connections: in use at once; idle: besides those; protocol: reads what comes."""
        super().__init__(
            limit=0,
            keepalive_timeout=IDLE_SECONDS,
            use_dns_cache=False,
            resolver=lookups,
            socket_factory=_receiving(open_socket, AHEAD_AT_MOST // connections),
        )
        self._factory = protocol  # type: ignore[assignment]
        self._idle_at_most = idle
        self._released = 0

    async def connect(self, *args: Any, **options: Any) -> aiohttp.connector.Connection:
        """aiohttp's, and noted."""
        connection = await super().connect(*args, **options)
        _progress.get().connected = True
        return connection

    def _release(self, key: Any, protocol: Any, **options: Any) -> None:
        super()._release(key, protocol, **options)
        if protocol.is_out_of_step:  # aiohttp asks again, and must not get another one that is
            for other, _ in self._conns.pop(key, ()):
                other.close()
        self._released += 1
        if self._released % LOOK_EVERY == 0:
            self._close_idle()

    def _close_idle(self) -> None:
        """The hosts that were not asked for the longest time come first in aiohttp's table."""
        surplus = sum(map(len, self._conns.values())) - self._idle_at_most
        while surplus > 0:
            oldest = self._conns.pop(next(iter(self._conns)))
            surplus -= len(oldest)
            for protocol, _ in oldest:
                protocol.close()


def any_socket(info: Any) -> socket.socket:
    """A socket to wherever it shall lead."""
    family, kind, protocol, _, _ = info
    return socket.socket(family=family, type=kind, proto=protocol)


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


def _receiving(open_socket: OpenSocket, ahead: int) -> OpenSocket:
    """Sockets that receive no more before it is read, where many together could hold too much."""
    if ahead >= AHEAD_ALONE:
        return open_socket

    def opened(info: Any) -> socket.socket:
        found = open_socket(info)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, max(PIECE // 2, ahead))
        return found

    return opened
