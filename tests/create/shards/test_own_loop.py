"""Coroutines are run from anywhere, and an interruption ends them before it is told."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from tarloom.create.shards.own_loop import OwnLoop


def by_itself(work: Callable[[], None]) -> None:
    work()


def as_in_a_notebook(work: Callable[[], None]) -> None:
    """Within a loop that leaves Ctrl-C to Python."""

    async def cell() -> None:
        work()

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(cell())
    finally:
        loop.close()


def beside_spark(work: Callable[[], None]) -> None:
    """With the handler of Ctrl-C that Spark's driver installs."""

    def cancel_jobs(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, cancel_jobs)
    work()


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as Python has it, whatever other tests' Spark made of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=[by_itself, as_in_a_notebook, beside_spark])
def run(request) -> Callable[[Callable[[], None]], None]:
    return request.param


def test_what_a_coroutine_returns_or_raises_is_returned_or_raised(run):
    async def half(number: int) -> int:
        await asyncio.sleep(0)
        if number % 2:
            raise ValueError(number)
        return number // 2

    def work() -> None:
        loop = OwnLoop()
        seen.append(loop.run(half(8)))
        with pytest.raises(ValueError, match="3"):
            loop.run(half(3))
        seen.append(loop.run(half(4)))
        loop.close()

    seen: list[int] = []
    run(work)
    assert seen == [4, 2]


def test_an_interruption_ends_what_is_run_and_waits_for_its_end(run):
    async def hang() -> None:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0.2)
            seen.append("ended")

    async def leave() -> None:
        seen.append("left")

    def work() -> None:
        loop = OwnLoop()
        try:
            with pytest.raises(KeyboardInterrupt):
                loop.run(hang())
            seen.append("interrupted")
            loop.run(leave())
        finally:
            loop.close()

    seen: list[str] = []
    run(work)
    assert seen == ["ended", "interrupted", "left"]
