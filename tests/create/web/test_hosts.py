"""Hosts are asked as fast as they like, and given up when they are not there. Time is a number that the test sets."""

import asyncio
import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tarloom.create.web.hosts import HOSTS_KEPT, Circuit, GivenUp, Host, HostLimits, Hosts, Network, Pace
from tarloom.create.web.urls import Origin
from tarloom.errors import FetchError

GONE = FetchError("connect", "no connection", transient=True)
LIMITS = HostLimits(connections=2, rate=float("inf"), longest_pause=10)


class Clock:
    """Stands still unless moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(
    rate=st.floats(0.01, 1000),
    asks=st.lists(st.floats(0, 5), max_size=60),
    pauses=st.dictionaries(st.integers(0, 60), st.floats(0, 20)),
)
def test_no_window_of_time_has_more_requests_than_the_rate_allows(rate, asks, pauses):
    """Whoever asks when, and whatever pauses come between."""
    pace, now, begun = Pace(rate), 0.0, []
    for number, gap in enumerate(asks):
        if number in pauses:
            pace.pause(now, pauses[number])
            resumes = now + pauses[number]
            assert pace.wait(now) >= resumes - now - 1e-6
        now = max(now + gap, now + pace.wait(now))
        assert pace.wait(now) <= 1e-6
        pace.begin(now)
        begun.append(now)
    for first in range(len(begun)):
        for last in range(first, len(begun)):
            assert last - first <= (begun[last] - begun[first]) * rate + 1e-3


def test_without_a_rate_nothing_waits():
    pace = Pace(float("inf"))
    for _ in range(100):
        pace.begin(5.0)
    assert pace.wait(5.0) <= 0


class CircuitMachine(RuleBasedStateMachine):
    """The circuit against its description: open exactly after 5 failures in a row over a second, until a success;
    while it is open one request every 10 seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit = Circuit(failures=5, cool_down=10)
        self.now = 0.0
        self.failures: list[float] = []
        self.opened = False
        self.allowed: list[float] = []

    @rule(seconds=st.floats(0.01, 15))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def a_request_fails(self):
        wait = self.circuit.failed(GONE, self.now, 1)
        self.failures.append(self.now)
        if len(self.failures) >= 5 and self.now - self.failures[0] >= 1:
            self.opened = True
            self.allowed = [self.now]
        assert wait == (self.failures[0] + 1 - self.now if len(self.failures) >= 5 and not self.opened else 0)

    @rule()
    def a_request_succeeds(self):
        self.circuit.succeeded()
        self.failures, self.opened = [], False

    @rule()
    def a_request_is_wanted(self):
        refusal = self.circuit.refusal(self.now)
        if not self.opened:
            assert refusal is None
        elif self.now - self.allowed[-1] >= 10:
            assert refusal is None
            self.allowed.append(self.now)
        else:
            assert str(refusal) == str(GONE)

    @invariant()
    def it_knows_its_state(self):
        assert self.circuit.is_open == self.opened
        long_ago = not self.failures or self.now >= self.failures[-1] + 10
        assert self.circuit.may_be_forgotten(self.now) == long_ago


TestCircuit = CircuitMachine.TestCase


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_no_more_requests_are_under_way_than_allowed_and_they_begin_in_turn():
    async def run() -> tuple[list[int], int]:
        host, begun, most, busy = Host(LIMITS), [], 0, 0

        async def request(number: int) -> None:
            nonlocal most, busy
            async with host:
                begun.append(number)
                busy += 1
                most = max(most, busy)
                await settle()
                busy -= 1

        await asyncio.gather(*map(request, range(9)))
        return begun, most

    assert asyncio.run(run()) == (list(range(9)), 2)


@pytest.mark.parametrize("cancelled", [[0], [2], [3], [2, 3], [0, 2, 4], [4]])
def test_a_turn_that_is_cancelled_goes_to_the_next(cancelled):
    async def run() -> list[int]:
        host, done = Host(LIMITS), []

        async def request(number: int) -> None:
            async with host:
                await settle()
                done.append(number)

        tasks = [asyncio.create_task(request(number)) for number in range(6)]
        await asyncio.sleep(0)
        for number in cancelled:
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with host, host:
            assert not host.is_idle
        assert host.is_idle
        return done

    assert asyncio.run(run()) == [number for number in range(6) if number not in cancelled]


def test_a_turn_that_is_cancelled_just_when_it_comes_is_given_back():
    async def run() -> bool:
        host = Host(HostLimits(connections=1, rate=float("inf"), longest_pause=10))

        async def request() -> None:
            async with host:
                await settle()

        async with host:
            waiting = asyncio.create_task(request())
            await settle()
        waiting.cancel()  # its turn has come, but it does not know yet
        await asyncio.gather(waiting, return_exceptions=True)
        return host.is_idle

    assert asyncio.run(run())


def test_the_whole_host_waits_when_it_asks_to():
    async def run() -> list[float]:
        loop, begun = asyncio.get_running_loop(), []
        host = Host(HostLimits(connections=4, rate=float("inf"), longest_pause=0.2))

        async def request() -> None:
            async with host:
                begun.append(loop.time())

        async with host:
            started = loop.time()
            host.throttled(FetchError("http_429", "Too Many Requests", transient=True), 3600)
            await asyncio.gather(*(request() for _ in range(8)))
        return [time - started for time in begun]

    waits = asyncio.run(run())
    assert len(waits) == 8
    assert all(wait > 0.19 for wait in waits), "the longest pause, and not the hour that was asked for"


def others_answer(clock: Clock) -> Network:
    """From now on for an hour."""
    network = Network()
    network.last_answer = clock.now + 3600
    return network


def open_circuit(host: Host, clock: Clock) -> None:
    for _ in range(5):
        host.unreachable(GONE)
        clock.now += 0.5


def test_all_that_wait_for_a_host_that_is_given_up_fail_as_the_last_did():
    async def run() -> list[str]:
        clock = Clock()
        host = Host(LIMITS, clock, others_answer(clock))

        async def request() -> None:
            async with host:
                raise AssertionError("nothing is sent")

        async with host, host:
            waiting = [asyncio.create_task(request()) for _ in range(3)]
            await settle()
            open_circuit(host, clock)
            found = await asyncio.gather(*waiting, return_exceptions=True)
        with pytest.raises(GivenUp) as later:
            async with host:
                pass
        clock.now += 10
        async with host:  # the probe
            with pytest.raises(GivenUp):
                async with host:
                    pass
            host.answered()
        async with host, host:
            return [str(error) for error in (*found, later.value)]

    assert asyncio.run(run()) == [str(GONE)] * 4


def test_a_moment_without_network_gives_no_host_up():
    async def run() -> None:
        clock = Clock()
        host = Host(LIMITS, clock, others_answer(clock))
        for _ in range(100):
            host.unreachable(GONE)
        clock.now += 1
        async with host:
            pass

    asyncio.run(run())


def test_a_host_is_not_given_up_where_no_other_answers_unless_it_lasts():
    """Then it may be our own connection that is lost, and rows are tried as if there were no circuit."""

    async def run() -> float:
        clock = Clock()
        hosts = Hosts(LIMITS, clock)
        started = clock.now
        with pytest.raises(GivenUp):  # noqa: PT012
            hosts.of(Origin("http", "other.test", 80)).answered()
            while clock.now < started + 1000:
                clock.now += 1
                for number in range(3):
                    host = hosts.of(Origin("http", f"{number}.test", 80))
                    async with host:
                        host.unreachable(GONE)
        return clock.now - started

    assert asyncio.run(run()) == 62


def test_a_host_that_only_ever_asks_to_wait_is_given_up_after_a_minute():
    async def run() -> float:
        clock = Clock()
        host = Host(LIMITS, clock)
        started = clock.now
        throttled = FetchError("http_429", "Too Many Requests", transient=True)
        with pytest.raises(GivenUp) as given_up:  # noqa: PT012
            while True:
                async with host, host:
                    host.throttled(throttled, 5)
                    host.throttled(throttled, 5)
                clock.now += 5
        assert str(given_up.value.error) == str(throttled)
        return clock.now - started

    assert 60 <= asyncio.run(run()) <= 70


def test_a_host_that_is_not_there_keeps_nothing_of_its_failures_but_their_name():
    class Body:
        """What a frame of a traceback holds."""

    def fail() -> weakref.ref[Body]:
        body = Body()
        try:
            raise FetchError("connect", "no connection", transient=True) from ConnectionError()
        except FetchError as error:
            host.unreachable(error)
            host.throttled(error, 1)
            return weakref.ref(body)

    host = Host(LIMITS)
    body = fail()
    gc.collect()
    assert body() is None


def test_dead_hosts_are_forgotten_once_their_failures_are_long_ago():
    clock = Clock()
    hosts = Hosts(LIMITS, clock)
    for number in range(3 * HOSTS_KEPT):
        open_circuit(hosts.of(Origin("http", f"{number}.test", 80)), clock)
    assert len(hosts._hosts) <= HOSTS_KEPT


def test_hosts_are_forgotten_once_there_is_nothing_to_remember_of_them():
    hosts = Hosts(LIMITS)
    hosts.of(Origin("http", "gone.test", 80)).unreachable(GONE)
    for number in range(3 * HOSTS_KEPT):
        hosts.of(Origin("http", f"{number}.test", 80))
    assert len(hosts._hosts) <= HOSTS_KEPT
    assert not hosts.of(Origin("http", "gone.test", 80)).is_idle
    assert hosts.of(Origin("http", "a.test", 80)) is not hosts.of(Origin("https", "a.test", 80))
