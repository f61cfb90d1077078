"""What bounds all tries of a worker together: how many there are, and how many bytes of bodies they hold.

A try waits for its place before its deadline begins, and holds it only while it lasts: pauses between tries hold none.
Where the memory for bodies is used up, tries wait for more in the middle of a body, the oldest first; the oldest one
may go on beyond the bound, so that there is always one that ends and makes room. The bytes held are thus never more
than `bytes_at_most` and one body.
"""

import asyncio
import heapq
from collections import deque
from types import TracebackType
from typing import Self

FIRST_BYTES = 64 << 10
"""Set aside for every try: short bodies need no more."""


class InFlight:
    """Places for tries. Belongs to one event loop."""

    def __init__(self, *, tries: int, bytes_at_most: int) -> None:
        self.bytes_held = 0
        self._bytes_at_most = bytes_at_most
        self._first_bytes = min(FIRST_BYTES, bytes_at_most // (2 * tries))
        self._free = tries
        self._begun = 0
        self._beyond: Place | None = None
        """The one try that may go beyond the bound."""
        self._entering: deque[asyncio.Future[None]] = deque()
        self._growing: list[tuple[int, int, asyncio.Future[None], Place]] = []
        """A heap of (age, size wanted, answer, place)."""

    def place(self) -> "Place":
        """A place for one try, to be entered with `async with`."""
        return Place(self)

    async def _enter(self, place: "Place") -> None:
        if self._entering or not self._has_room():
            answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._entering.append(answer)
            try:
                await answer
            except asyncio.CancelledError:
                if answer.done() and not answer.cancelled():
                    self._leave(self._first_bytes)
                raise
        else:
            self._take_first()
        place.size = self._first_bytes
        place.age = self._begun = self._begun + 1

    def _has_room(self) -> bool:
        return self._free > 0 and self.bytes_held + self._first_bytes <= self._bytes_at_most

    def _take_first(self) -> None:
        self._free -= 1
        self.bytes_held += self._first_bytes

    async def _grow(self, place: "Place", size: int) -> None:
        if self._beyond is place or self.bytes_held + size - place.size <= self._bytes_at_most:
            self._give(place, size)
            return
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._growing, (place.age, size, answer, place))
        self._hand_out()
        await answer

    def _give(self, place: "Place", size: int) -> None:
        self.bytes_held += size - place.size
        place.size = size

    def _exit(self, place: "Place") -> None:
        if self._beyond is place:
            self._beyond = None
        self._leave(place.size)

    def _leave(self, size: int) -> None:
        self._free += 1
        self.bytes_held -= size
        self._hand_out()

    def _hand_out(self) -> None:
        """Let those go on for whom there is room: first bodies under way, the oldest first, then new tries."""
        while self._growing:
            _, size, answer, place = self._growing[0]
            if not answer.done():
                if self.bytes_held + size - place.size > self._bytes_at_most:
                    if self._beyond is not None:
                        return
                    self._beyond = place
                self._give(place, size)
                answer.set_result(None)
            heapq.heappop(self._growing)
        while self._entering and self._has_room():
            answer = self._entering.popleft()
            if not answer.done():
                self._take_first()
                answer.set_result(None)


class Place:
    """One try's place among all, and the bytes of its body."""

    __slots__ = ("_all", "age", "size")

    def __init__(self, places: InFlight) -> None:
        self._all = places
        self.age = 0
        self.size = 0
        """Bytes that the body may have by now."""

    async def __aenter__(self) -> Self:
        await self._all._enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._all._exit(self)

    async def grow(self, size: int) -> None:
        """Wait until the body may have so many bytes."""
        await self._all._grow(self, size)
