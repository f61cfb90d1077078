"""What bounds all tries of a worker together: how many there are, and how many bytes of bodies they hold.

A try waits for its place before its deadline begins, and holds it only while it lasts: pauses between tries hold none.
Where the memory for bodies is used up, tries wait in the middle of a body before they read on, the oldest first; the
oldest one may go on beyond the bound, so that there is always one that ends and makes room. What is held is thus never
more than `bytes_at_most`, one body, and the piece that each try had just read. A body whose length is known wants room
for as much again as has come: memory is for few bodies that go on rather than for the beginnings of many, and little of
it for those that hardly come at all.
"""

import asyncio
import heapq
from collections import deque
from types import TracebackType
from typing import Self

PIECE = 64 << 10
"""About what is read at a time. As much is set aside for every try: short bodies need no more."""


class InFlight:
    """Places for tries. Belongs to one event loop."""

    def __init__(self, *, tries: int, bytes_at_most: int) -> None:
        self.bytes_held = 0
        self._bytes_at_most = bytes_at_most
        self._first_bytes = min(PIECE, bytes_at_most // (2 * tries))
        self._free = tries
        self._begun = 0
        self._beyond: Place | None = None
        """The one try that may go beyond the bound."""
        self._entering: deque[asyncio.Future[None]] = deque()
        self._waiting: list[tuple[int, int, asyncio.Future[None], Place]] = []
        """A heap of tries in the middle of a body: (age, bytes wanted, answer, place)."""

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

    def _hold(self, place: "Place", size: int) -> bool:
        self.bytes_held += size - place.size
        place.size = size
        return self._beyond is place or self.bytes_held <= self._bytes_at_most

    def _take(self, place: "Place", more: int) -> bool:
        if self._beyond is not place and (self._waiting or self.bytes_held + more > self._bytes_at_most):
            return False  # but the one that may go beyond must not wait: others wait for it
        return self._hold(place, place.size + more)

    async def _room(self, place: "Place", more: int) -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (place.age, more, answer, place))
        self._hand_out()
        await answer

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
        while self._waiting:
            _, more, answer, place = self._waiting[0]
            if not answer.done():
                if self.bytes_held + more > self._bytes_at_most:
                    if self._beyond is not None:
                        return
                    self._beyond = place
                self._hold(place, place.size + more)
                answer.set_result(None)
            heapq.heappop(self._waiting)
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
        """Bytes set aside for it, or held by its body."""

    async def __aenter__(self) -> Self:
        await self._all._enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._all._exit(self)

    def hold(self, size: int) -> bool:
        """The body has so many bytes by now. Returns whether it may be read on at once."""
        return self._all._hold(self, size)

    def take(self, more: int) -> bool:
        """Set so many more bytes aside for it at once. Returns whether there was room, and nobody waits for it."""
        return self._all._take(self, more)

    async def room(self, more: int = PIECE) -> None:
        """Wait until so many more bytes may be read, which are set aside for it."""
        await self._all._room(self, more)
