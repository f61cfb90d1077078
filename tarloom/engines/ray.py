"""Work on Ray: one actor a worker, on a cluster that is there or on one started here for the run."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from tarloom.engines.base import Item, NotYet, Opener, Outcome, Result, Worker
from tarloom.engines.crew import Crew, Reply, open_worker, try_item
from tarloom.engines.ray_session import first_line, no_node_has, ray_session, some_node_has
from tarloom.engines.workers import check_workers
from tarloom.errors import EngineError, UsageError, missing_extra

try:
    import ray
    from ray.exceptions import OutOfMemoryError, RayActorError, RayError
except ImportError as error:
    raise missing_extra("ray", error) from error

OBJECT_STORE_BYTES = 256 << 20
"""Only items and reports pass through the object store of a cluster started here."""
GROW_SECONDS = 600.0
"""How long a cluster may stay without a node that has room for a worker: one that grows by itself takes minutes."""

logger = logging.getLogger(__name__)


class RayEngine:
    """Runs workers in Ray actors. Those that have been placed work, while others wait for a cluster to grow.

    address: of a running cluster ("auto", "host:port", "ray://host:port"); else RAY_ADDRESS, else a cluster of this
    machine is started and stopped again by `close`. A session that the caller has initialised is used and left alone.
    grow_seconds: how long a cluster may stay without room for a worker. Raises UsageError where no cluster answers at
    the address or a worker could never be placed.
    """

    def __init__(
        self,
        workers: int = 1,
        *,
        cpus_per_worker: float = 1,
        gpus_per_worker: float = 0,
        address: str | None = None,
        grow_seconds: float = GROW_SECONDS,
    ) -> None:
        check_workers(workers)
        self.workers = workers
        self._resources = {"num_cpus": cpus_per_worker, "num_gpus": gpus_per_worker}
        with ExitStack() as session:
            cpus = math.ceil(workers * cpus_per_worker)
            session.enter_context(ray_session(cpus=cpus, store_bytes=OBJECT_STORE_BYTES, address=address))
            self._grow_seconds = grow_seconds
            self._check_room()
            self._session = session.pop_all()

    def map(
        self, opener: Opener[Item, Result], items: Iterable[Item | NotYet], *, retries: int = 2
    ) -> Iterator[Outcome[Item, Result]]:
        shipped = ray.put(opener)
        crew = Crew[Item](hire=lambda: _ActorSeat(shipped, self._resources), wait=self._wait, size=self.workers)
        try:
            yield from crew.run(items, retries=retries)
        except RayError as error:
            raise EngineError(f"Ray failed: {first_line(error)}; see its logs in /tmp/ray") from error

    def close(self) -> None:
        """Leave the cluster, and stop it if it was started here."""
        self._session.close()

    def _check_room(self) -> None:
        """Actors that fit on no node would wait for ever, unless there may be other nodes soon."""
        if self._has_room():
            return
        if _is_started_here():
            raise UsageError(f"{self._lack()}; ask for less, or use a larger cluster")
        logger.warning("%s now; waiting for it to grow, up to %g s", self._lack(), self._grow_seconds)

    def _wait(self, seats: Sequence["_ActorSeat"], seconds: float | None) -> list["_ActorSeat"]:
        """Those that have replied. Raises EngineError where none can, because no node has room any more."""
        owed = [seat.owed for seat in seats]
        while not (
            ready := ray.wait(owed, num_returns=1, timeout=self._grow_seconds if seconds is None else seconds)[0]
        ):
            if seconds is not None:
                return []
            if not self._has_room():
                raise EngineError(f"{self._lack()}, for {self._grow_seconds:g} s; run the same command again to go on")
        return [seat for seat in seats if seat.owed in ready]

    def _has_room(self) -> bool:
        return some_node_has(cpus=self._resources["num_cpus"], gpus=self._resources["num_gpus"])

    def _lack(self) -> str:
        return no_node_has(cpus=self._resources["num_cpus"], gpus=self._resources["num_gpus"])


class _Actor:
    """Runs in the actor's process: the worker is opened there."""

    def __init__(self) -> None:
        self._worker: Worker[Any, Any] | None = None

    def open(self, opener: Opener[Any, Any]) -> Reply:
        self._worker, reply = open_worker(opener)
        return reply

    def run(self, item: Any, then: Any | None) -> Reply:
        assert self._worker is not None
        return try_item(self._worker, item, then)


class _ActorSeat:
    """An actor with one worker, and the reference to the reply that it owes."""

    def __init__(self, opener: Any, resources: dict[str, float]) -> None:
        self._actor = ray.remote(_Actor).options(**resources).remote()
        self.owed = self._actor.open.remote(opener)

    def submit(self, item: Any, then: Any | None) -> None:
        self.owed = self._actor.run.remote(item, then)

    def receive(self) -> Reply:
        try:
            reply: Reply = ray.get(self.owed)
        except (RayActorError, OutOfMemoryError) as error:  # the latter where Ray itself ended it
            return Reply(error=f"the worker's actor died: {first_line(error)}", lost=True)
        return reply

    def dismiss(self, *, at_once: bool) -> None:
        """Nothing that a worker holds outlives its process: a kill is a clean end either way."""
        ray.kill(self._actor)


def _is_started_here() -> bool:
    """Whether the cluster is this process's own: then nothing makes it larger."""
    node = ray._private.worker._global_node
    return node is not None and node.is_head()
