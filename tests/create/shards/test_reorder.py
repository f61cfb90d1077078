"""Results come in the order of the items, whatever order the work ends in, within bounds."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarloom.create.shards.reorder import Window, in_order


def window(**bounds) -> Window:
    return Window(**{"items": 8, "unfinished": 8, "bytes": 1 << 20, "items_at_least": 4} | bounds)


@settings(deadline=None, max_examples=50)
@given(steps=st.lists(st.integers(0, 5), max_size=40), items=st.integers(1, 10), unfinished=st.integers(1, 10))
def test_results_keep_the_order_and_the_bounds(steps, items, unfinished):
    begun, finished, taken = 0, 0, 0

    async def work(item: tuple[int, int]) -> int:
        nonlocal begun, finished
        begun += 1
        assert begun - taken <= items + 1
        assert begun - finished <= unfinished
        for _ in range(item[1]):
            await asyncio.sleep(0)
        finished += 1
        return item[0]

    async def run() -> list[int]:
        nonlocal taken
        found = []
        bounds = window(items=items, unfinished=unfinished, items_at_least=1)
        async for result in in_order(list(enumerate(steps)), work, lambda _: 1, bounds):
            taken += 1
            found.append(result)
        return found

    assert asyncio.run(run()) == list(range(len(steps)))


def test_a_slow_item_does_not_let_the_others_fill_the_memory():
    gate, held = asyncio.Event(), []

    async def work(item: int) -> bytes:
        if item == 0:
            await gate.wait()
        await asyncio.sleep(0.001)
        held.append(item)
        return bytes(100)

    async def run() -> int:
        results = in_order(range(1000), work, len, window(items=1000, unfinished=1000, bytes=1000))
        first = asyncio.create_task(anext(results))
        await asyncio.sleep(0.05)
        begun = len(held)
        gate.set()
        await first
        await results.aclose()
        return begun

    assert asyncio.run(run()) <= 1000 // 100 + 1


def test_when_the_iteration_ends_no_work_is_left():
    left = 0

    async def work(item: int) -> int:
        nonlocal left
        left += 1
        try:
            await asyncio.sleep(60 if item else 0)
        finally:
            left -= 1
        return item

    async def run() -> int:
        results = in_order(range(10), work, lambda _: 1, window())
        assert await anext(results) == 0
        await results.aclose()
        return left

    assert asyncio.run(run()) == 0


def test_an_error_of_the_work_is_raised():
    async def work(item: int) -> int:
        if item == 3:
            raise OSError("disk full")
        return item

    async def run() -> None:
        async for _ in in_order(range(10), work, lambda _: 1, window()):
            pass

    with pytest.raises(OSError, match="disk full"):
        asyncio.run(run())
