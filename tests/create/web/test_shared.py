"""What many rows need is asked for once, whoever asks and gives up; so are names, and that there is none."""

import asyncio
import socket

import pytest
from aiohttp.abc import AbstractResolver
from hypothesis import given
from hypothesis import strategies as st

from tarloom.create.web.lookups import KEPT_FAILED_SECONDS, KEPT_SECONDS, SharedLookups
from tarloom.create.web.shared import Shared
from tests.create.web.test_hosts import Clock


class NameServer(AbstractResolver):
    """Knows one name, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def resolve(self, host, port=0, family=socket.AF_UNSPEC):
        self.asked.append(host)
        await asyncio.sleep(0.01)
        if len(host) > 63:
            raise UnicodeError("label too long")
        if host != "known.test":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [{"hostname": host, "host": "192.0.2.1", "port": port, "family": 2, "proto": 6, "flags": 0}]

    async def close(self):
        pass


def test_concurrent_rows_share_one_look_up_and_later_ones_its_answer():
    async def run() -> tuple[list[str], list[str], list[int]]:
        server, clock = NameServer(), Clock()
        lookups = SharedLookups(server, clock)
        found = await asyncio.gather(*(lookups.resolve("known.test", port) for port in (80, 81, 82)))
        before = list(server.asked)
        await lookups.resolve("known.test", 83)
        clock.now += KEPT_SECONDS
        await lookups.resolve("known.test", 84)
        return before, server.asked, [answer["port"] for answers in found for answer in answers]

    assert asyncio.run(run()) == (["known.test"], ["known.test"] * 2, [80, 81, 82])


@pytest.mark.parametrize(("host", "kind"), [("no.test", socket.gaierror), ("a" * 64, UnicodeError)])
def test_that_there_is_no_address_is_kept_too_for_a_while(host, kind):
    async def run() -> tuple[int, list[Exception]]:
        server, clock = NameServer(), Clock()
        lookups = SharedLookups(server, clock)
        first = await asyncio.gather(*(lookups.resolve(host) for _ in range(3)), return_exceptions=True)
        asked = len(server.asked)
        clock.now += KEPT_FAILED_SECONDS
        first += await asyncio.gather(lookups.resolve(host), return_exceptions=True)
        assert len(server.asked) == asked + 1
        return asked, first

    asked, errors = asyncio.run(run())
    assert asked == 1
    assert {type(error) for error in errors} == {kind}
    assert len({id(error) for error in errors}) == 4, "each its own, else their traces would grow together"


def test_a_row_that_gives_up_does_not_end_the_look_up_of_the_others():
    async def run() -> int:
        server = NameServer()
        lookups = SharedLookups(server)
        impatient = asyncio.create_task(lookups.resolve("known.test"))
        patient = asyncio.create_task(lookups.resolve("known.test"))
        await asyncio.sleep(0)
        impatient.cancel()
        assert await patient
        return len(server.asked)

    assert asyncio.run(run()) == 1


def test_a_failure_to_load_reaches_all_who_wait_and_is_not_kept():
    async def run() -> list[str]:
        loads = 0

        async def load(key: str) -> tuple[str, float]:
            nonlocal loads
            loads += 1
            await asyncio.sleep(0)
            if loads == 1:
                raise ConnectionError(key)
            return f"{key} {loads}", 60

        shared = Shared(load, weigh=len, weight_at_most=10)
        failed = await asyncio.gather(shared.get("a"), shared.get("a"), return_exceptions=True)
        return [*map(repr, failed), await shared.get("a"), await shared.get("a")]

    assert asyncio.run(run()) == ["ConnectionError('a')", "ConnectionError('a')", "a 2", "a 2"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 12)), max_size=40))
def test_no_more_is_kept_than_there_is_room_for(asked):
    """Each key's value weighs what was last asked for; too heavy ones are not kept at all."""
    weights: dict[int, int] = {}

    async def load(key: int) -> tuple[int, float]:
        return weights[key], 10

    async def run() -> None:
        clock = Clock()
        shared = Shared(load, weigh=lambda weight: weight, weight_at_most=10, clock=clock)
        for key, weight in asked:
            weights[key] = weight
            clock.now += 4
            assert await shared.get(key) <= 12
            kept = {key: value for key, (value, _) in shared._kept.items()}
            assert sum(kept.values()) <= 10
            assert shared._left == 10 - sum(kept.values())
            assert key in kept or weights[key] > 10

    asyncio.run(run())


def test_closing_leaves_what_is_under_way():
    async def run() -> bool:
        lookups = SharedLookups(NameServer())
        waiting = asyncio.create_task(lookups.resolve("known.test"))
        await asyncio.sleep(0.001)
        await lookups.close()
        await asyncio.wait([waiting])
        return waiting.cancelled()

    assert asyncio.run(run())
