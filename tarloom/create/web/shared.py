"""What many rows need is had once: those who ask while it is under way share it, and it is kept for a while."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Shared(Generic[Key, Value]):
    """Values by key, each had from `load`, which also says how many seconds it holds. Belongs to one event loop."""

    def __init__(
        self,
        load: Callable[[Key], Awaitable[tuple[Value, float]]],
        *,
        weigh: Callable[[Value], int],
        weight_at_most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """weigh: how much room a value takes. Of more than `weight_at_most` together, the oldest are forgotten."""
        self._load = load
        self._weigh = weigh
        self._left = weight_at_most
        self._clock = clock
        self._kept: dict[Key, tuple[Value, float]] = {}
        self._under_way: dict[Key, asyncio.Task[Value]] = {}

    async def get(self, key: Key) -> Value:
        """The key's value. Raises what `load` raises, which is not kept."""
        kept = self._kept.get(key)
        if kept is not None and self._clock() < kept[1]:
            return kept[0]
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._keep(key))
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await asyncio.shield(task)

    def cancel(self) -> None:
        """Leave what is under way."""
        for task in self._under_way.values():
            task.cancel()

    async def _keep(self, key: Key) -> Value:
        value, seconds = await self._load(key)
        self._forget(key)
        self._left -= self._weigh(value)
        self._kept[key] = value, self._clock() + seconds
        while self._left < 0:
            self._forget(next(iter(self._kept)))
        return value

    def _forget(self, key: Key) -> None:
        if key in self._kept:
            value, _ = self._kept.pop(key)
            self._left += self._weigh(value)
