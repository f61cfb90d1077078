"""Ray Data asks: a read task for some portions, what they say shuffled by partition, a task for each partition."""

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import pyarrow as pa

from tarloom.engines.choose import EngineConfig
from tarloom.engines.ray_session import ray_session
from tarloom.engines.workers import parse_workers
from tarloom.errors import EngineError, TarloomError, missing_extra
from tarloom.process.curate.parcels import SCHEMA, Parcel, packed, unpacked
from tarloom.process.curate.work import Portion, Work
from tarloom.read.plan.pieces import share
from tarloom.read.ray.data import first_line, root_cause

try:
    import ray.data
    from ray.data import Datasource
    from ray.data.block import BlockMetadata
    from ray.data.datasource import ReadTask
    from ray.exceptions import RayError
except ImportError as error:
    raise missing_extra("ray", error) from error

STORE_BYTES = 512 << 20
TASKS_PER_CPU = 4


def ask(work: Work, portions: Sequence[Portion], run_on: EngineConfig) -> Iterator[Parcel]:
    """The answer's parts, as they come. Raises EngineError where Ray fails, and what reading raises."""
    cpus = parse_workers(run_on.num_workers).most
    logger = logging.getLogger("ray.data")
    level = logger.level
    with ray_session(cpus=cpus, store_bytes=STORE_BYTES, address=run_on.ray_address):
        logger.setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # Ray copies settings of its own that it gives up
                rows = _rows(work, portions).iter_batches(batch_size=None, batch_format="pyarrow")
                for batch in rows:
                    yield from unpacked(batch)
        except RayError as error:
            cause = root_cause(error)
            if isinstance(cause, TarloomError):
                raise cause from error
            raise EngineError(f"Ray Data failed: {type(cause).__name__}: {first_line(cause)}") from error
        finally:
            logger.setLevel(level)


def _rows(work: Work, portions: Sequence[Portion]) -> ray.data.Dataset:
    tasks = min(len(portions), TASKS_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1))))
    said = ray.data.read_datasource(_Saying(work, portions, tasks), override_num_blocks=tasks)
    said.context.enable_progress_bars = False
    if work.statement.last is None:
        return said
    return said.groupby("partition", num_partitions=work.partitions).map_groups(
        partial(_last, work), batch_format="pyarrow"
    )


class _Saying(Datasource):  # type: ignore[misc]
    """What portions say, as rows."""

    def __init__(self, work: Work, portions: Sequence[Portion], tasks: int) -> None:
        super().__init__()
        self._work, self._portions, self._tasks = work, portions, tasks

    def get_name(self) -> str:
        return "Portions"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: object = None
    ) -> list[ReadTask]:
        unknown = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        shares = [share(self._portions, part=part, parts=self._tasks) for part in range(self._tasks)]
        return [ReadTask(partial(_first, self._work, portions), unknown, schema=SCHEMA) for portions in shares]


def _first(work: Work, portions: Iterable[Portion]) -> Iterator[pa.Table]:
    for portion in portions:
        yield pa.Table.from_batches([packed(work.first(portion))])


def _last(work: Work, group: pa.Table) -> pa.Table:
    return pa.Table.from_batches([packed([work.last(list(unpacked(group)))])])
