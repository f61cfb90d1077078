"""Ray Data reads pieces: row counts and schema come from the plan, and read tasks split inside tars.

What Ray projects and filters becomes the dataset's own selection and condition, so that only what is wanted is read.
Ray's default of some two hundred tasks costs more than the reading does. Here a task is up to 512 MiB, less where there
would be fewer than one a CPU; its blocks go out as they are read, while the next is read already.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from tarloom.engines.ray_datasets import named, tables_of
from tarloom.errors import UsageError, missing_extra
from tarloom.format.ahead import COPY_THREADS, ahead, first_part
from tarloom.format.index import KEY
from tarloom.read.dataset import Dataset
from tarloom.read.plan.pieces import Piece, pack
from tarloom.read.ray.filters import as_condition, columns_of
from tarloom.read.ray.session import session
from tarloom.read.ray.tensors import tensor_schema, with_tensors
from tarloom.read.samples.batches import BATCH_ROWS, read_piece
from tarloom.read.samples.to_arrow import check_batches
from tarloom.read.scan import ScanConfig, Tallier, Tally
from tarloom.read.view import View, by_stage

try:
    import ray
    import ray.data
    from ray.data import Datasource, ExecutionResources
    from ray.data.block import BlockMetadata
    from ray.data.datasource import ReadTask
    from ray.data.expressions import Expr
except ImportError as error:
    raise missing_extra("ray", error) from error

__all__ = ["PieceSource", "scan", "session", "tallies", "to_ray"]

URL = "__url__"
"""The address of a sample's tar."""
TASK_BYTES = 512 << 20
"""Large: in its first second Ray runs one task at a time, and one that streams keeps two CPUs busy."""
LEAST_TASK_BYTES = 4 << 20
"""A task costs 15 to 20 ms whatever it reads."""
BLOCK_BYTES = 32 << 20
"""Of a piece, which Ray hands on as one block. Its own 128 MiB would wait for most of a task."""
GROWS = 8
"""So many times as large are pictures about when they are decoded."""
TASK_PIECES = 2000
"""At most: Ray warns of a task that takes a MiB to send, and a piece takes up to some 430 bytes."""


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """What Ray's blocks of samples look like. It travels in every read task."""

    batch_rows: int = BATCH_ROWS
    tensors: bool = True
    """Whether decoded pictures are Ray's tensors."""
    url: bool = False
    """Whether samples have `__url__`."""

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """Of blocks, from that of batches."""
        schema = tensor_schema(schema) if self.tensors else schema
        return schema.append(pa.field(URL, pa.string())) if self.url else schema

    def read(self, pieces: Sequence[Piece], columns: Sequence[str]) -> Iterator[pa.Table]:
        """The columns named of all samples."""
        read = partial(read_piece, batch_rows=self.batch_rows)
        for piece, batches in zip(pieces, ahead(first_part(read), pieces, threads=COPY_THREADS), strict=True):
            for batch in batches:
                table = with_tensors(batch) if self.tensors else pa.Table.from_batches([batch])
                if self.url:
                    table = table.append_column(URL, pa.array([piece.url] * len(batch), pa.string()))
                yield table.select(columns)


class PieceSource(Datasource):  # type: ignore[misc]
    """A Ray datasource over a dataset; the parallelism that Ray suggests is not taken."""

    def __init__(self, dataset: Dataset, blocks: Blocks, *, cpus: int, task_bytes: int | None = None) -> None:
        super().__init__()
        check_batches(dataset.view)
        self._dataset = dataset
        self._blocks = blocks
        self._cpus = cpus
        self._task_bytes = task_bytes
        self._projection_map = None

    def get_name(self) -> str:
        return "Tarloom"

    def supports_projection_pushdown(self) -> bool:
        return True

    def supports_predicate_pushdown(self) -> bool:
        return True

    def apply_predicate(self, predicate_expr: Expr) -> "PieceSource":
        """A source that applies it; this one, where it cannot be applied: then Ray does.

        It cannot where failures are rows: those of a shard that is lost come whatever is asked of their columns. Raises
        UsageError for a column that there is none of.
        """
        self._check_named(predicate_expr)
        if self._dataset.errors == "row":
            return self
        names = [KEY, *(column.name for column in self._dataset.joined)]
        condition = as_condition(predicate_expr, pa.schema([self._dataset.schema.field(name) for name in names]))
        if condition is None:
            return self
        try:
            filtered = self._dataset.where(condition)
        except UsageError:  # such as columns that only the case of their letters tells apart
            return self
        clone: PieceSource = super().apply_predicate(predicate_expr)
        clone._dataset = filtered
        return clone

    def _check_named(self, expression: Expr) -> None:
        """Raises UsageError for a column that blocks do not have: from Ray it would be a KeyError of a task."""
        known = self._blocks.schema(self._dataset.schema).names
        for name in columns_of(expression):
            if name not in known:
                advice = f"use {', '.join(known)}, or select it from the dataset before to_ray"
                raise UsageError(f"{self._dataset.path}: filter: there is no column {name!r}; {advice}")

    def estimate_inmemory_data_size(self) -> int:
        return sum(piece.bytes for pieces in self.tasks() for piece in pieces)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        columns, schema = self._columns(), self._blocks.schema(self._dataset.schema)
        schema = pa.schema([schema.field(name) for name in columns])
        return [
            ReadTask(
                named(partial(self._blocks.read, pieces, columns)),
                _metadata(pieces, self._dataset.view),
                schema=schema,
                per_task_row_limit=per_task_row_limit,
            )
            for pieces in self.tasks()
        ]

    def tasks(self) -> list[tuple[Piece, ...]]:
        """The pieces that are read together."""
        dataset = self._pruned()
        task_bytes = self._task_bytes or _task_bytes(dataset, self._cpus)
        piece_bytes = min(task_bytes, BLOCK_BYTES // (GROWS if dataset.view.decode else 1))
        packed = pack(dataset.plan(piece_bytes), total_bytes=dataset.nbytes, target_bytes=task_bytes)
        planned = [task[i : i + TASK_PIECES] for task in packed for i in range(0, len(task), TASK_PIECES)]
        return planned or [()]  # where there are no samples, one task has the schema

    def _pruned(self) -> Dataset:
        """With what is projected, and what decides which rows come and what they hold, and nothing else."""
        if self._dataset.errors != "raise":  # whatever cannot be read is a sample less, or a row without anything
            return self._dataset
        names = [name for name in self._columns() if name not in (KEY, URL)]
        if self._dataset.join == "skip":  # each table leaves out the samples that it has no row for
            names += [joined[0].name for joined in by_stage(self._dataset.joined).values()]
        return self._dataset.select(*names)

    def _columns(self) -> list[str]:
        """In Ray's order. Rows without any column would be none: where only their number is wanted, they have keys."""
        every = self._blocks.schema(self._dataset.schema).names
        return every if self._projection_map is None else list(self._projection_map) or [KEY]


def to_ray(dataset: Dataset, blocks: Blocks | None = None, *, task_bytes: int | None = None) -> ray.data.Dataset:
    """The dataset as Ray's: `__key__`, members as binary or decoded (pictures as tensors), columns.

    Raises UsageError where members are decoded to Pillow images.
    """
    source = PieceSource(dataset, blocks or Blocks(), cpus=_cpus(), task_bytes=task_bytes)
    tasks = source.tasks()
    rows = ray.data.read_datasource(source, override_num_blocks=len(tasks))
    rows.context.target_max_block_size = min(rows.context.target_max_block_size or BLOCK_BYTES, _full_block(tasks))
    return rows


def scan(dataset: Dataset, config: ScanConfig, tallier: Tallier) -> Iterator[Tally]:
    """Tallies of batches, counted in the tasks that read them."""
    rows = to_ray(dataset, Blocks(batch_rows=config.batch_size, tensors=False))
    yield from tallies(rows, partial(_tally_table, tallier), batch_format="pyarrow", workers=config.num_workers)


def tallies(
    rows: ray.data.Dataset, count: Callable[[Any], pa.Table], *, batch_format: str, workers: int
) -> Iterator[Tally]:
    """What `count` makes of every block, as it comes. Errors of the tasks are raised as ours."""
    rows.context.enable_progress_bars = False
    rows.context.execution_options.resource_limits = ExecutionResources(cpu=workers)
    counted = rows.map_batches(count, batch_size=None, batch_format=batch_format, zero_copy_batch=True)
    for batch in tables_of(counted, doing="reading"):
        yield from map(Tally.from_row, batch.to_pylist())


def _cpus() -> int:
    """Of the cluster; of one that is started here where Ray does not run yet, as Ray Data itself would do next."""
    if not ray.is_initialized():
        ray.init()
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _task_bytes(dataset: Dataset, cpus: int) -> int:
    """Big tasks, but one a CPU where the dataset allows."""
    most = TASK_BYTES // (GROWS if dataset.view.decode else 1)
    return min(most, max(LEAST_TASK_BYTES, -(-dataset.nbytes // cpus)))


def _full_block(tasks: Sequence[Sequence[Piece]]) -> int:
    """Ray joins tables until they are larger than this, and cuts what is half as large again: in between, a piece goes
    out as it is. Small pieces are joined; so are those whose size is not known before they are decoded."""
    largest = max((piece.bytes for pieces in tasks for piece in pieces), default=0)
    return (largest if largest > BLOCK_BYTES // 2 else BLOCK_BYTES) * 3 // 4


def _metadata(pieces: Sequence[Piece], view: View) -> BlockMetadata:
    """What is known without reading: how many rows, unless some are filtered; how many bytes, unless any is decoded."""
    return BlockMetadata(
        num_rows=None if view.filters else sum(piece.rows for piece in pieces),
        size_bytes=None if view.filters or view.decode else sum(piece.bytes for piece in pieces),
        exec_stats=None,
        input_files=tuple(piece.url for piece in pieces),
    )


def _tally_table(tallier: Tallier, table: pa.Table) -> pa.Table:
    return pa.Table.from_batches([tallier.of_batch(table).to_batch()])
