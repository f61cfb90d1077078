"""Names are looked up once: rows of one host share one look-up, and its answer is kept, as is that there is none."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp.abc import AbstractResolver, ResolveResult

from tarloom.create.shared import Shared

KEPT_SECONDS = 300.0
KEPT_FAILED_SECONDS = 30.0
KEPT_AT_MOST = 20_000


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
            return _Answer(found=[], failure=error), KEPT_FAILED_SECONDS
