"""Names are looked up once: rows of one host share one look-up, and its answer is kept, as is that there is none."""

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp.abc import AbstractResolver, ResolveResult

KEPT_SECONDS = 300.0
KEPT_FAILED_SECONDS = 30.0
KEPT_AT_MOST = 20_000

Failure = OSError | UnicodeError


@dataclass(frozen=True, slots=True)
class _Answer:
    until: float
    found: list[ResolveResult]
    failure: Failure | None


class SharedLookups(AbstractResolver):
    """A resolver in front of another. Belongs to one event loop."""

    def __init__(self, resolver: AbstractResolver, clock: Callable[[], float] = time.monotonic) -> None:
        self._resolver = resolver
        self._clock = clock
        self._answers: dict[str, _Answer] = {}
        self._under_way: dict[str, asyncio.Task[_Answer]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All addresses of a name. Raises socket.gaierror, and UnicodeError for what is no name."""
        answer = self._answers.get(host)
        if answer is None or answer.until <= self._clock():
            answer = await self._shared(host)
        if answer.failure is not None:
            raise type(answer.failure)(*answer.failure.args)
        return [{**found, "port": port} for found in answer.found]

    async def close(self) -> None:
        """Leave what is under way."""
        for task in self._under_way.values():
            task.cancel()

    async def _shared(self, host: str) -> _Answer:
        task = self._under_way.get(host)
        if task is None:
            task = self._under_way[host] = asyncio.create_task(self._look_up(host))
            task.add_done_callback(lambda _: self._under_way.pop(host, None))
        return await asyncio.shield(task)

    async def _look_up(self, host: str) -> _Answer:
        try:
            found, failure = await self._resolver.resolve(host, 0, socket.AF_UNSPEC), None
        except (OSError, UnicodeError) as error:
            found, failure = [], error
        seconds = KEPT_SECONDS if failure is None else KEPT_FAILED_SECONDS
        answer = _Answer(self._clock() + seconds, found, failure)
        while len(self._answers) >= KEPT_AT_MOST:
            del self._answers[next(iter(self._answers))]
        self._answers[host] = answer
        return answer
