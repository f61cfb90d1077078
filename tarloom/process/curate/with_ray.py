"""Ray Data asks: a read task for some portions, what they say shuffled by partition, a task for each partition."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import pyarrow as pa

from tarloom.engines.choose import EngineConfig
from tarloom.engines.ray_datasets import quiet_data, read_by_tasks, tables_of
from tarloom.engines.ray_session import ray_session
from tarloom.engines.workers import parse_workers
from tarloom.errors import missing_extra
from tarloom.process.curate.parcels import SCHEMA, Parcel, packed, unpacked
from tarloom.process.curate.work import Portion, Work
from tarloom.read.plan.pieces import share

try:
    import ray.data
except ImportError as error:
    raise missing_extra("ray", error) from error

STORE_BYTES = 512 << 20
TASKS_PER_CPU = 4


def ask(work: Work, portions: Sequence[Portion], run_on: EngineConfig) -> Iterator[Parcel]:
    """The answer's parts, as they come. Raises EngineError where Ray fails, and what reading raises."""
    cpus = parse_workers(run_on.num_workers).most
    with ray_session(cpus=cpus, store_bytes=STORE_BYTES, address=run_on.ray_address), quiet_data():
        for rows in tables_of(_rows(work, portions), doing="curating"):
            yield from unpacked(rows)


def _rows(work: Work, portions: Sequence[Portion]) -> ray.data.Dataset:
    tasks = min(len(portions), TASKS_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1))))
    shares = [share(portions, part=part, parts=tasks) for part in range(tasks)]
    said = read_by_tasks([partial(_first, work, portions) for portions in shares], SCHEMA)
    if work.statement.last is None:
        return said
    return said.groupby("partition", num_partitions=work.partitions).map_groups(
        partial(_last, work), batch_format="pyarrow"
    )


def _first(work: Work, portions: Iterable[Portion]) -> Iterator[pa.Table]:
    for portion in portions:
        yield pa.Table.from_batches([packed(work.first(portion))])


def _last(work: Work, group: pa.Table) -> pa.Table:
    return pa.Table.from_batches([packed([work.last(list(unpacked(group)))])])
