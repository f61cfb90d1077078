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
    """What bounds the memory while the first item is slow: what may wait behind it. How many items are worked on at
    once is for the work to bound, which knows when it only waits."""

    items: int
    """Items begun and not yet taken."""
    unfinished: int
    """Of these, items that still wait or are worked on."""
    bytes: int
    """Bytes of items begun and not yet taken; of unfinished ones, the mean of those finished so far is counted."""
    items_at_least: int
    """May be begun, whatever their bytes."""


async def in_order(
    items: Iterable[Given],
    work: Callable[[Given], Awaitable[Done]],
    size_of: Callable[[Done], int],
    window: Window,
) -> AsyncIterator[Done]:
    """The results of `work` in the order of the items. What `work` raises is raised here, in its place.

    However the iteration ends, no work is left behind.
    """
    begun: deque[asyncio.Task[Done]] = deque()
    progress = asyncio.Event()
    finished = taken = bytes_finished = bytes_taken = 0

    async def run(item: Given) -> Done:
        nonlocal finished, bytes_finished
        try:
            done = await work(item)
        finally:
            progress.set()
        finished += 1
        bytes_finished += size_of(done)
        return done

    def is_full() -> bool:
        if len(begun) < window.items_at_least:
            return False
        unfinished = len(begun) - (finished - taken)
        expected = bytes_finished - bytes_taken + unfinished * bytes_finished / max(1, finished)
        too_many = unfinished >= window.unfinished or len(begun) >= window.items
        return finished == 0 or too_many or expected > window.bytes

    try:
        for item in items:
            while is_full() or (begun and begun[0].done()):
                if begun[0].done():
                    done = begun.popleft().result()
                    taken += 1
                    bytes_taken += size_of(done)
                    yield done
                else:
                    progress.clear()
                    await progress.wait()
            begun.append(asyncio.create_task(run(item)))
        while begun:
            yield await begun.popleft()
    finally:
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
