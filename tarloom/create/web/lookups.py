"""Names are looked up once: rows of one host share one look-up, and its answer is kept, as is that there is none."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from tarloom.create.web.shared import Shared

LOOKUPS_AT_ONCE = 256
"""Threads: a name server that does not answer holds each for half a minute, and other rows wait for what is left."""
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
KEPT_SECONDS = 300.0
KEPT_FAILED_SECONDS = 30.0
KEPT_PASSING_SECONDS = 0.2
"""Of a failure that may pass: shorter than the pause before a second try, which must ask the name server again."""
KEPT_AT_MOST = 20_000


class Resolver(AbstractResolver):
    """Looks names up in daemon threads: a name server that hangs holds up neither other rows nor the end of a run."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(LOOKUPS_AT_ONCE)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """All addresses of a name. Raises socket.gaierror."""
        async with self._slots:
            infos = await _in_daemon_thread(host, port, family)
        return [
            ResolveResult(hostname=host, host=str(info[4][0]), port=port, family=info[0], proto=info[2], flags=_NUMERIC)
            for info in infos
        ]

    async def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    found: list[ResolveResult]
    failure: OSError | UnicodeError | None = None


class SharedLookups(AbstractResolver):
    """A resolver in front of another. Belongs to one event loop."""

    def __init__(self, resolver: AbstractResolver, clock: Callable[[], float] = time.monotonic) -> None:
        self._resolver = resolver
        self._answers = Shared(self._look_up, weigh=lambda _: 1, weight_at_most=KEPT_AT_MOST, clock=clock)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All addresses of a name, of whatever family. Raises socket.gaierror, and UnicodeError for what is no name."""
        answer = await self._answers.get(host)
        if answer.failure is not None:
            raise type(answer.failure)(*answer.failure.args)
        return [{**found, "port": port} for found in answer.found]

    async def close(self) -> None:
        """Leave what is under way."""
        self._answers.cancel()

    async def _look_up(self, host: str) -> tuple[_Answer, float]:
        try:
            return _Answer(found=await self._resolver.resolve(host, 0, socket.AF_UNSPEC)), KEPT_SECONDS
        except (OSError, UnicodeError) as error:
            passing = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
            failed = _Answer(found=[], failure=error.with_traceback(None))
            return failed, KEPT_PASSING_SECONDS if passing else KEPT_FAILED_SECONDS


async def _in_daemon_thread(host: str, port: int, family: int) -> list[Any]:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Any]] = loop.create_future()

    def deliver(infos: list[Any] | None, error: Exception | None) -> None:
        if answer.cancelled():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(infos or [])

    def look_up() -> None:
        infos, failure = None, None
        try:
            infos = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(deliver, infos, failure)

    threading.Thread(target=look_up, name=f"look-up {host}", daemon=True).start()
    return await answer
