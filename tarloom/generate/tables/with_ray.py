"""Ray Data makes the rows: it reads the tables, joins what is large, and gives the rows back in their order.

    read prompts -> look up in small tables -> join with large ones -> sort -> derive, fill the template -> here

A small table of details is sent to where the prompts are; then nothing is shuffled, and rows keep their order. With a
large one the prompts are shuffled (Ray Data's join, which needs polars), and sorted when that is done.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from tarloom.create.sources.tables import ROW, Part, Table
from tarloom.engines.ray_datasets import quiet_data, read_by_tasks, tables_of
from tarloom.engines.ray_session import ray_session
from tarloom.errors import missing_extra
from tarloom.generate.tables.matching import Join, Lookup, key_texts
from tarloom.generate.tables.rows import RowRecipe

try:
    import ray
    import ray.data
except ImportError as error:
    raise missing_extra("ray", error) from error

STORE_BYTES = 512 << 20
"""Of a cluster started here. What does not fit is kept on disk."""
BLOCK_BYTES = 16 << 20
PARTITION_BYTES = 32 << 20
"""Of a join or a sort, about."""
CPUS = 4
"""Tasks at once: each holds a few blocks."""
_ON, _LEFT, _RIGHT = "on", "left", "right"
Block = Callable[[pa.Table], pa.Table]


def made_rows(
    prompts: Table, recipe: RowRecipe, details: Sequence[Table | Lookup], *, nbytes: int
) -> Iterator[pa.Table]:
    """All rows as the recipe makes them, in order, `__row__` last.

    details: for each of the recipe's joins. nbytes: of all tables, about. Raises what went wrong where the rows were.
    """
    partitions = nbytes // PARTITION_BYTES + 1
    with ray_session(cpus=2, store_bytes=STORE_BYTES), quiet_data():
        rows = _mapped(_read(prompts.parts), recipe.keyed)
        shuffled = False
        for join, detail in zip(recipe.joins, details, strict=True):
            if isinstance(detail, Lookup):
                rows = _mapped(rows, partial(_looked_up, ray.put(detail)))
            else:
                rows, shuffled = _joined(rows, join, detail, partitions), True
        if shuffled:
            rows = rows.sort([ROW, *(join.place for join in recipe.joins)])
        yield from _in_order(_mapped(rows, recipe.finished))


def _joined(rows: ray.data.Dataset, join: Join, detail: Table, partitions: int) -> ray.data.Dataset:
    """Ray Data's join. The columns travel in structs: it would change their types, and structs it leaves alone."""
    left = _mapped(rows, partial(_packed, join.detail.left, _LEFT, None))
    right = _mapped(_read(detail.parts), partial(_packed, join.detail.right, _RIGHT, join.of))
    both = left.join(right, join_type="left_outer", num_partitions=partitions, on=(_ON,))
    return _mapped(both, partial(_unpacked, join))


def _looked_up(lookup: Any, table: pa.Table) -> pa.Table:
    """Runs in a task. lookup: where it is in Ray's object store."""
    found: Lookup = ray.get(lookup)
    return found.joined(table)


def _packed(on: Sequence[str], name: str, kept: Block | None, table: pa.Table) -> pa.Table:
    """What to join by, and the row as a struct; of details, rows that nothing can find are left out."""
    texts = key_texts(table, on)
    if kept is not None:
        found = texts.is_valid()
        table, texts = kept(table.filter(found)), texts.filter(found)
    return pa.table({_ON: texts, name: table.to_struct_array()})


def _unpacked(join: Join, table: pa.Table) -> pa.Table:
    if _RIGHT not in table.column_names:  # Ray has seen no row of that table
        table = table.append_column(_RIGHT, pa.nulls(table.num_rows, pa.struct(list(join.added))))
    parts = [(table.column(name), table.schema.field(name).type) for name in (_LEFT, _RIGHT)]
    columns = [column for struct, _ in parts for column in struct.flatten()]
    names = [kind.field(number).name for _, kind in parts for number in range(kind.num_fields)]
    return join.settled(pa.table(columns, names=names))


def _read(parts: Sequence[Part]) -> ray.data.Dataset:
    """A task reads a part."""
    return read_by_tasks([part.tables for part in parts], parts[0].table_schema)


def _mapped(rows: ray.data.Dataset, make: Block) -> ray.data.Dataset:
    return rows.map_batches(make, batch_size=None, batch_format="pyarrow", zero_copy_batch=True)


def _in_order(rows: ray.data.Dataset) -> Iterator[pa.Table]:
    context = rows.context
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = context.execution_options.resource_limits.copy(cpu=CPUS)
    context.target_max_block_size = BLOCK_BYTES
    context.shuffle_input_batch_bytes = BLOCK_BYTES
    yield from tables_of(rows, doing="joining tables")
