"""Work done side by side, taken in order: how rows keep their order whatever order their downloads finish in."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

Given = TypeVar("Given")
Done = TypeVar("Done")


@dataclass(frozen=True, kw_only=True)
class Window:
    """What bounds the memory: how much may be under way, and how much may wait for a slow one in front."""

    in_flight: int
    """Items worked on at once."""
    waiting: int
    """Items begun and not yet taken."""
    waiting_bytes: int
    """Bytes of finished items that wait to be taken."""


async def in_order(
    items: Iterable[Given],
    work: Callable[[Given], Awaitable[Done]],
    size_of: Callable[[Done], int],
    window: Window,
) -> AsyncIterator[Done]:
    """The results of `work` in the order of the items. What `work` raises is raised here, in its place.

    However the iteration ends, no work is left behind.
    """
    slots = asyncio.Semaphore(window.in_flight)
    begun: deque[asyncio.Task[Done]] = deque()
    held = 0

    async def run(item: Given) -> Done:
        nonlocal held
        try:
            done = await work(item)
        finally:
            slots.release()
        held += size_of(done)
        return done

    try:
        for item in items:
            while begun and (begun[0].done() or len(begun) >= window.waiting or held > window.waiting_bytes):
                done = await begun.popleft()
                held -= size_of(done)
                yield done
            await slots.acquire()
            begun.append(asyncio.create_task(run(item)))
        while begun:
            yield await begun.popleft()
    finally:
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
