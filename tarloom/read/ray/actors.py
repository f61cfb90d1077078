"""Ray actors that stream batches to their caller under back-pressure: no actor runs ahead by more than two batches."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from tarloom.errors import EngineError, TarloomError, UsageError, missing_extra
from tarloom.read.dataset import Dataset
from tarloom.read.plan.pieces import Piece
from tarloom.read.ray.session import session
from tarloom.read.samples.batches import BATCH_ROWS, read_piece
from tarloom.read.scan import ScanConfig, Tallier, Tally

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise missing_extra("ray", error) from error

__all__ = ["scan", "session", "stream_batches"]

BATCHES_AHEAD = 2
RETRIES = 2


class _BatchActor:
    """Reads pieces in its own process. Piece and rows say all, so a restarted actor yields the same batches again."""

    def read(self, piece: Piece, batch_rows: int) -> Iterator[pa.RecordBatch]:
        yield from read_piece(piece, batch_rows=batch_rows)


def stream_batches(
    dataset: Dataset, *, workers: int, batch_rows: int = BATCH_ROWS, cpus_per_worker: float = 1
) -> Iterator[pa.RecordBatch]:
    """Every batch of the dataset once, in the order in which actors deliver them; their bytes stay in shared memory.

    Actors that die are restarted, and their piece read again. Raises ShardError as read_piece does, EngineError where
    actors cannot go on, UsageError without a worker.
    """
    if workers < 1:
        raise UsageError(f"workers must be at least 1, not {workers}")
    pieces = iter(dataset.plan())
    options = {"num_cpus": cpus_per_worker, "max_restarts": RETRIES, "max_task_retries": RETRIES}
    actors = [ray.remote(_BatchActor).options(**options).remote() for _ in range(workers)]
    streams = {_start(actor, piece, batch_rows): actor for actor, piece in zip(actors, pieces, strict=False)}
    try:
        while streams:
            ready, _ = ray.wait(list(streams), num_returns=1, fetch_local=False)
            stream, actor = ready[0], streams[ready[0]]
            try:
                yield ray.get(next(stream))
            except StopIteration:
                del streams[stream]
                following = next(pieces, None)
                if following is not None:
                    streams[_start(actor, following, batch_rows)] = actor
                else:
                    ray.kill(actor)  # its CPU may be what another one waits for
    except RayTaskError as error:
        raise (error.cause if isinstance(error.cause, TarloomError) else _engine_error(error)) from error
    except RayError as error:
        raise _engine_error(error) from error
    finally:
        for actor in actors:
            ray.kill(actor)


def scan(dataset: Dataset, config: ScanConfig, tallier: Tallier) -> Iterator[Tally]:
    """Tallies of batches that actors have read; counted here."""
    for batch in stream_batches(dataset, workers=config.num_workers, batch_rows=config.batch_size):
        yield tallier.of_batch(batch)


def _start(actor: Any, piece: Piece, batch_rows: int) -> Any:
    options = {"num_returns": "streaming", "_generator_backpressure_num_objects": BATCHES_AHEAD}
    return actor.read.options(**options).remote(piece, batch_rows)


def _engine_error(error: RayError) -> EngineError:
    return EngineError(f"Ray failed while reading: {str(error).strip().splitlines()[-1]}; see its logs in /tmp/ray")
