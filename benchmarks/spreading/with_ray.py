"""Ray tasks, which begin anew with every piece, and Ray actors, which keep what they have loaded."""

from collections import Counter
from collections.abc import Iterator

import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

from benchmarks.spreading.job import Answer, Network, answers, pieces, timed, together
from tarloom.read.plan.pieces import Piece

AHEAD = 2
"""Pieces that an actor has been given: it works on one, and the next is there already."""


def tasks(folder: str, workers: int) -> Iterator[Answer | None]:
    yield None
    pending = [_task.remote(folder, piece) for piece in pieces(folder)]
    while pending:
        done, pending = ray.wait(pending)
        yield from ray.get(done)


def actors(folder: str, workers: int) -> Iterator[Answer | None]:
    yield None
    crew = [_Actor.remote(folder) for _ in range(workers)]
    waiting = iter(pieces(folder))
    pending = {actor.answer.remote(piece): actor for actor in crew * AHEAD for piece in [next(waiting, None)] if piece}
    while pending:
        (done,), _ = ray.wait(list(pending))
        actor, following = pending.pop(done), next(waiting, None)
        if following is not None:
            pending[actor.answer.remote(following)] = actor
        yield ray.get(done)


@ray.remote(num_cpus=1)
def _task(folder: str, piece: Piece) -> Answer:
    seconds: Counter[str] = Counter()
    network = timed(seconds, "load", Network, folder)
    return together(answers(piece, network, seconds))


@ray.remote(num_cpus=1)
class _Actor:
    """Holds the network."""

    def __init__(self, folder: str) -> None:
        self._seconds: Counter[str] = Counter()
        self._network = timed(self._seconds, "load", Network, folder)

    def answer(self, piece: Piece) -> Answer:
        return together(answers(piece, self._network, self._seconds))


def start(workers: int, store_bytes: int) -> None:
    """A session whose workers have imported what they need."""
    ray.init(
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=store_bytes,
    )
    ray.get([_imported.options(num_cpus=1).remote(workers) for _ in range(workers)])


@ray.remote
def _imported(workers: int) -> str:
    import time

    import ray.data

    time.sleep(1)  # so that each worker gets one
    return f"{ray.data.__name__} {answers.__name__}"


def spilled_bytes() -> int:
    """What the object store has written to disk, since it had no room."""
    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    return int(get_memory_info_reply(state).store_stats.spilled_bytes_total)
