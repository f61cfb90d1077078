"""Ray Data reads pieces: row counts and schema come from the plan, and read tasks split inside tars.

Ray's default of some two hundred tasks costs more than the reading does; here a task is about 64 MiB, less only where
there would be fewer tasks than CPUs.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from tarloom.errors import EngineError, TarloomError, missing_extra
from tarloom.read.batches import BATCH_ROWS, read_piece
from tarloom.read.dataset import PIECE_BYTES, Dataset
from tarloom.read.pieces import MIB, Piece, pack
from tarloom.read.ray_session import session
from tarloom.read.scan import ScanConfig, Tallier, Tally

try:
    import ray
    import ray.data
    from ray.data import Datasource, ExecutionResources
    from ray.data.block import BlockMetadata
    from ray.data.datasource import ReadTask
    from ray.exceptions import RayError
except ImportError as error:
    raise missing_extra("ray", error) from error

__all__ = ["PieceSource", "scan", "session", "tallies", "to_ray"]

LEAST_TASK_BYTES = 4 * MIB
"""A task costs 15 to 20 ms whatever it reads."""


class PieceSource(Datasource):  # type: ignore[misc]
    """A Ray datasource over planned tasks, each some pieces; the parallelism that Ray suggests is not taken."""

    def __init__(self, tasks: Sequence[tuple[Piece, ...]], schema: pa.Schema, batch_rows: int) -> None:
        super().__init__()
        self._tasks = tasks
        self._schema = schema
        self._batch_rows = batch_rows
        self._projection_map = None

    def get_name(self) -> str:
        return "Tarloom"

    def estimate_inmemory_data_size(self) -> int:
        return sum(piece.bytes for pieces in self._tasks for piece in pieces)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        return [self._read_task(pieces, per_task_row_limit) for pieces in self._tasks]

    def _read_task(self, pieces: tuple[Piece, ...], row_limit: int | None) -> ReadTask:
        metadata = BlockMetadata(
            num_rows=sum(piece.rows for piece in pieces),
            size_bytes=sum(piece.bytes for piece in pieces),
            exec_stats=None,
            input_files=tuple(piece.url for piece in pieces),
        )
        read = partial(_read_tables, pieces, self._batch_rows)
        return ReadTask(read, metadata, schema=self._schema, per_task_row_limit=row_limit)


def to_ray(dataset: Dataset, *, task_bytes: int | None = None, batch_rows: int = BATCH_ROWS) -> ray.data.Dataset:
    """The dataset as Ray's, with its schema: `__key__`, members as binary, joined columns. Ray must be running."""
    task_bytes = task_bytes or _task_bytes(sum(piece.bytes for piece in dataset.pieces()))
    tasks = list(pack(dataset.pieces(task_bytes), target_bytes=task_bytes))
    source = PieceSource(tasks, dataset.schema, batch_rows)
    return ray.data.read_datasource(source, override_num_blocks=max(1, len(tasks)))


def scan(dataset: Dataset, config: ScanConfig, tallier: Tallier) -> Iterator[Tally]:
    """Tallies of batches, counted in the tasks that read them."""
    rows = to_ray(dataset, batch_rows=config.batch_size)
    yield from tallies(rows, partial(_tally_table, tallier), batch_format="pyarrow", workers=config.num_workers)


def tallies(
    rows: ray.data.Dataset, count: Callable[[Any], pa.Table], *, batch_format: str, workers: int
) -> Iterator[Tally]:
    """What `count` makes of every block, as it comes. Errors of the tasks are raised as ours."""
    rows.context.enable_progress_bars = False
    rows.context.execution_options.resource_limits = ExecutionResources(cpu=workers)
    counted = rows.map_batches(count, batch_size=None, batch_format=batch_format, zero_copy_batch=True)
    try:
        for batch in counted.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from map(Tally.from_row, batch.to_pylist())
    except RayError as error:
        cause = root_cause(error)
        if isinstance(cause, TarloomError):
            raise cause from error
        raise EngineError(f"Ray Data failed while reading: {type(cause).__name__}: {first_line(cause)}") from error


def root_cause(error: BaseException) -> BaseException:
    """What a task raised, under the layers of Ray's errors."""
    cause = getattr(error, "cause", None) or error.__cause__
    return root_cause(cause) if isinstance(cause, BaseException) else error


def first_line(error: BaseException) -> str:
    """Of the message: Ray adds its advice behind it."""
    return (str(error).strip().splitlines() or [""])[0]


def _task_bytes(total: int) -> int:
    """Big tasks, but two a CPU where the dataset allows."""
    cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
    return min(PIECE_BYTES, max(LEAST_TASK_BYTES, total // (2 * cpus)))


def _read_tables(pieces: Sequence[Piece], batch_rows: int) -> Iterator[pa.Table]:
    for piece in pieces:
        for batch in read_piece(piece, batch_rows=batch_rows):
            yield pa.Table.from_batches([batch])


def _tally_table(tallier: Tallier, table: pa.Table) -> pa.Table:
    return pa.Table.from_batches([tallier.of_batch(table).to_batch()])
