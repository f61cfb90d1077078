"""Kindness to each host, and patience with it: how many requests at once, how often, when to pause and when to give up.

What waits for its host's turn holds no place among the worker's tries, so a slow host holds up its own rows alone.
`Pace` and `Circuit` are told the time; only `Host` waits.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from tarloom.create.web.urls import Origin
from tarloom.errors import FetchError

FAILURES = 5
FAILING_SECONDS = 1.0
"""A host is given up for a while after so many failures in a row over so long: a moment's trouble is none."""
ALONE_SECONDS = 60.0
"""So long where no other host answers either: then it may be our own connection that is lost."""
THROTTLED = 16
THROTTLED_SECONDS = 60.0
"""Likewise after so many refusals for haste in a row, whatever else is asked for."""
HOSTS_KEPT = 4096

Clock = Callable[[], float]


class GivenUp(Exception):
    """The host's circuit is open: nothing is sent, and the row fails as those before it did."""

    def __init__(self, error: FetchError) -> None:
        super().__init__(str(error))
        self.error = error


class Pace:
    """When the next request may begin: at most `rate` a second, evenly spread, and none during a pause."""

    def __init__(self, rate: float) -> None:
        self._spacing = 1 / rate
        self._next = 0.0

    def wait(self, now: float) -> float:
        """Seconds until a request may begin; 0 or less is at once."""
        return self._next - now

    def begin(self, now: float) -> None:
        """A request begins."""
        self._next = max(self._next, now) + self._spacing

    def pause(self, now: float, seconds: float) -> None:
        """None begins for so long."""
        self._next = max(self._next, now + seconds)


class Circuit:
    """Opens when a host keeps failing. While it is open nothing is sent but one probe every `cool_down` seconds; a
    probe that succeeds closes it."""

    def __init__(self, *, failures: int, cool_down: float) -> None:
        self._needed = failures
        self._cool_down = cool_down
        self._error: FetchError | None = None
        self._count = 0
        self.failing_since = float("inf")
        """The first of the failures in a row."""
        self._failed_at = float("-inf")
        self._probe_at: float | None = None

    def may_be_forgotten(self, now: float) -> bool:
        """Nothing failed since the last success, or not for so long that the next request would be a probe."""
        return self._count == 0 or now >= self._failed_at + self._cool_down

    @property
    def is_open(self) -> bool:
        """Only probes are sent."""
        return self._probe_at is not None

    def refusal(self, now: float) -> FetchError | None:
        """Why nothing may be sent. None: go on; if the circuit is open, this one is the probe."""
        if self._probe_at is None:
            return None
        if now < self._probe_at:
            return self._error
        self._probe_at = now + self._cool_down
        return None

    def failed(self, error: FetchError, now: float, patience: float) -> float:
        """A request failed. The circuit opens if enough did in a row, over `patience` seconds.

        Returns the seconds after which one more failure will open it, 0 if that may be long off: until then there is
        no use in further requests.
        """
        if not self._count:
            self.failing_since = now
        self._count += 1
        self._failed_at = now
        self._error = error.alone()
        if self._count < self._needed:
            return 0
        if now - self.failing_since >= patience:
            self._probe_at = now + self._cool_down
            return 0
        return self.failing_since + patience - now

    def succeeded(self) -> None:
        """A request did not fail."""
        self._count = 0
        self._probe_at = None
        self.failing_since = float("inf")


@dataclass(frozen=True, kw_only=True)
class HostLimits:
    """What holds for each host."""

    connections: int
    """Requests at once."""
    rate: float
    """Requests per second."""
    longest_pause: float
    """Seconds, whatever the host asks for; also how long it is given up for."""


class Network:
    """What is known of the way to all hosts."""

    last_answer = float("-inf")
    """When any host answered last."""


class Host:
    """One host: entered with `async with` for each request to it. Belongs to one event loop.

    Entering raises GivenUp while a circuit is open.
    """

    def __init__(self, limits: HostLimits, clock: Clock = time.monotonic, network: "Network | None" = None) -> None:
        """network: what all hosts have in common."""
        cool_down = max(limits.longest_pause, FAILING_SECONDS)
        self._limits = limits
        self._clock = clock
        self._pace = Pace(limits.rate)
        self._network = network or Network()
        self._connecting = Circuit(failures=FAILURES, cool_down=cool_down)
        self._admitting = Circuit(failures=THROTTLED, cool_down=cool_down)
        self._busy = 0
        self._waiting: deque[asyncio.Future[GivenUp | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Nothing is under way, and there is nothing to remember."""
        now = self._clock()
        if self._busy or self._waiting or self._pace.wait(now) > 0:
            return False
        return self._connecting.may_be_forgotten(now) and self._admitting.may_be_forgotten(now)

    async def __aenter__(self) -> "Host":
        now = self._clock()
        self._raise_if_given_up(now)
        if not self._waiting and self._may_begin(now):
            self._begin(now)
            return self
        turn: asyncio.Future[GivenUp | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._go_on()
        try:
            given_up = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result() is None:
                self._end()
            raise
        if given_up is not None:
            raise given_up
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def unreachable(self, error: FetchError) -> None:
        """No connection came about."""
        now = self._clock()
        others_answer = self._network.last_answer >= self._connecting.failing_since
        wait = self._connecting.failed(error, now, FAILING_SECONDS if others_answer else ALONE_SECONDS)
        self._pace.pause(now, min(wait, self._connecting.failing_since + FAILING_SECONDS - now))
        if self._connecting.is_open:
            self._fail_waiting(error)

    def throttled(self, error: FetchError, seconds: float) -> None:
        """It answered that it wants to be left alone for so long."""
        now = self._clock()
        self._reached(now)
        self._admitting.failed(error, now, THROTTLED_SECONDS)
        self._pace.pause(now, min(seconds, self._limits.longest_pause))
        if self._admitting.is_open:
            self._fail_waiting(error)

    def answered(self) -> None:
        """It answered, whatever it was."""
        self._reached(self._clock())
        self._admitting.succeeded()

    def _reached(self, now: float) -> None:
        self._connecting.succeeded()
        self._network.last_answer = now

    def _raise_if_given_up(self, now: float) -> None:
        refusal = self._connecting.refusal(now) or self._admitting.refusal(now)
        if refusal is not None:
            raise GivenUp(refusal)

    def _may_begin(self, now: float) -> bool:
        return self._busy < self._limits.connections and self._pace.wait(now) <= 0

    def _begin(self, now: float) -> None:
        self._busy += 1
        self._pace.begin(now)

    def _end(self) -> None:
        self._busy -= 1
        self._go_on()

    def _go_on(self) -> None:
        """Let those begin whose turn it is."""
        while self._waiting:
            now = self._clock()
            if not self._waiting[0].done():
                if not self._may_begin(now):
                    return self._wake_in(self._pace.wait(now))
                self._begin(now)
                self._waiting[0].set_result(None)
            self._waiting.popleft()

    def _fail_waiting(self, error: FetchError) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(GivenUp(error))

    def _wake_in(self, seconds: float) -> None:
        """Where it is not a connection that is waited for, but the time."""
        if seconds > 0 and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._go_on()


class Hosts:
    """All hosts that a worker asks, each made when it is first asked for."""

    def __init__(self, limits: HostLimits, clock: Clock = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._network = Network()
        self._hosts: dict[Origin, Host] = {}
        self._look_at = HOSTS_KEPT

    def of(self, origin: Origin) -> Host:
        """The host of this origin."""
        host = self._hosts.get(origin)
        if host is None:
            if len(self._hosts) >= self._look_at:
                self._forget_idle()
            host = self._hosts[origin] = Host(self._limits, self._clock, self._network)
        return host

    def _forget_idle(self) -> None:
        self._hosts = {origin: host for origin, host in self._hosts.items() if not host.is_idle}
        self._look_at = max(HOSTS_KEPT, 2 * len(self._hosts))
