"""Tries share the worker's memory: it is bounded, and however they grow and end, all of them come to their end."""

import asyncio
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarloom.create.web.in_flight import PIECE, InFlight, Place

KIB = 1024
BOUND = 512 * KIB
BODY = 640 * KIB
"""The longest body of these tests."""


class Watched(InFlight):
    """Remembers how much was held at most, and by how many."""

    most_bytes = most_tries = tries = 0

    async def try_body(self, steps: list[int], fails_at: int | None, known_at: int | None) -> None:
        async with self.place() as place:
            self.tries += 1
            try:
                await self._steps(place, steps, fails_at, known_at)
            finally:
                self.tries -= 1

    async def _steps(self, place: Place, steps: list[int], fails_at: int | None, known_at: int | None) -> None:
        """known_at: from this step on it wants room for all the rest at once."""
        for number, size in enumerate(steps):
            await asyncio.sleep(0)
            if number == fails_at:
                raise ConnectionError
            self.most_tries = max(self.most_tries, self.tries)
            if size > place.size:
                more = steps[-1] - size if known_at is not None and number >= known_at else 0
                may_go_on = place.hold(size)
                self.most_bytes = max(self.most_bytes, self.bytes_held)
                if not may_go_on or (more and not place.take(more)):
                    await place.room(more or PIECE)
                self.most_bytes = max(self.most_bytes, self.bytes_held)


BODIES = st.lists(st.integers(1, PIECE), max_size=BODY // PIECE).map(lambda sizes: list(accumulate(sizes)))
MAYBE = st.none() | st.integers(0, 5)
TRIES = st.lists(st.tuples(BODIES, MAYBE, MAYBE, st.none() | st.integers(0, 30)), max_size=40)


@given(tries=TRIES, places=st.integers(1, 12))
@settings(deadline=None, max_examples=150)
def test_memory_is_bounded_and_every_try_ends(tries, places):
    """Bodies grow, fail and are cancelled in any order: nothing is waited for for ever, and all is given back."""

    async def run() -> Watched:
        all_tries = Watched(tries=places, bytes_at_most=BOUND)
        tasks = [asyncio.create_task(all_tries.try_body(*how)) for *how, _ in tries]
        for turn in range(31):
            for task, (*_, cancelled_at) in zip(tasks, tries, strict=True):
                if cancelled_at == turn:
                    task.cancel()
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await asyncio.gather(*tasks, return_exceptions=True)
        return all_tries

    seen = asyncio.run(run())
    assert seen.most_bytes <= BOUND + BODY + places * PIECE
    assert seen.most_tries <= places
    assert seen.bytes_held == 0
    assert seen._free == places


def test_short_bodies_wait_for_nothing():
    async def run() -> None:
        places = InFlight(tries=1000, bytes_at_most=192 << 20)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            ready = asyncio.Barrier(1000)

            async def body() -> None:
                async with places.place() as place:
                    assert place.size == PIECE
                    await ready.wait()

            for _ in range(1000):
                group.create_task(body())

    asyncio.run(run())


def test_a_try_begins_when_another_ends_and_not_before():
    async def run() -> list[str]:
        places, told = InFlight(tries=1, bytes_at_most=BOUND), []

        async def second() -> None:
            async with places.place():
                told.append("second")

        async with places.place():
            waiting = asyncio.create_task(second())
            for _ in range(5):
                await asyncio.sleep(0)
            told.append("first")
        await waiting
        return told

    assert asyncio.run(run()) == ["first", "second"]


def test_the_oldest_body_goes_on_where_all_memory_is_used():
    async def run() -> list[str]:
        places, told = InFlight(tries=4, bytes_at_most=BOUND), []

        async def body(name: str, begun: asyncio.Event, release: asyncio.Event) -> None:
            async with places.place() as place:
                place.hold(BOUND // 3)
                begun.set()
                await release.wait()
                if not place.hold(BODY):
                    await place.room()
                told.append(name)

        release, tasks = asyncio.Event(), []
        for name in ("oldest", "older", "old"):
            begun = asyncio.Event()
            tasks.append(asyncio.create_task(body(name, begun, release)))
            await begun.wait()
        release.set()
        async with asyncio.timeout(5):
            await asyncio.gather(*tasks)
        return told

    assert asyncio.run(run())[0] == "oldest"


def test_a_known_length_is_set_aside_at_once_only_where_there_is_room_and_nobody_waits():
    async def run() -> None:
        places = InFlight(tries=3, bytes_at_most=BOUND)
        async with places.place() as first, places.place() as second, places.place() as third:
            assert first.take(BOUND // 2)
            assert not second.take(BOUND)
            waiting = asyncio.create_task(second.room(BOUND)), asyncio.create_task(third.room(BOUND))
            await asyncio.sleep(0)
            assert [task.done() for task in waiting] == [True, False]  # one may go beyond the bound
            assert not first.take(1)
            waiting[1].cancel()

    asyncio.run(run())


def test_the_body_that_may_go_beyond_waits_for_nothing():
    async def run() -> None:
        places = InFlight(tries=2, bytes_at_most=BOUND)
        async with places.place() as first, places.place() as second:
            assert first.take(BOUND // 2)
            second.hold(BOUND)
            await second.room()
            waiting = asyncio.create_task(first.room())
            await asyncio.sleep(0)
            assert not waiting.done()
            assert second.take(BODY - BOUND)
            waiting.cancel()

    asyncio.run(run())


def test_a_body_that_fails_in_the_middle_gives_its_memory_back():
    async def body(places: InFlight) -> None:
        async with places.place() as place:
            place.hold(BODY)
            raise ConnectionError

    async def run() -> int:
        places = InFlight(tries=4, bytes_at_most=BOUND)
        with pytest.raises(ConnectionError):
            await body(places)
        return places.bytes_held

    assert asyncio.run(run()) == 0
