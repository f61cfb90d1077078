"""What a stage is: a small description that travels, and a worker that is built from it where the work runs.

A stage sees batches of a shard's samples and answers each with a table: the same keys in the same order, the stage's
columns, and for every row a status and, unless it is success, the name of the reason.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from tarloom.format.index import KEY
from tarloom.format.sidecar import ERROR, STATUS


class StageWorker(Protocol):
    """Built once per process, where the work runs: holds the model."""

    @property
    def columns(self) -> pa.Schema:
        """The columns it adds, without the key, status and error."""
        ...

    def __call__(self, batch: pa.RecordBatch) -> pa.Table:
        """The rows of `batch` (`__key__` and members as binary) as a table of `result_schema(columns)`.

        A sample that cannot be processed is a row with a status and an error. Equal batches give equal tables, whatever
        came before. Raises WorkerBroken where this worker is of no more use.
        """
        ...

    def close(self) -> None:
        """Free what the worker holds."""
        ...


class Stage(Protocol):
    """Describes a stage. Implementations are frozen dataclasses: picklable, cheap, and importing no framework."""

    @property
    def name(self) -> str:
        """Of its sidecars, unless the run names them otherwise."""
        ...

    @property
    def members(self) -> tuple[str, ...]:
        """Extensions of the members it wants to see; those that a dataset lacks are left out."""
        ...

    @property
    def batch_size(self) -> int:
        """Rows in a batch. Batches never cross shards, so that results do not depend on how work was spread."""
        ...

    def check(self) -> None:
        """Raises UsageError where the stage cannot work, before anything is started."""
        ...

    def fingerprint(self) -> Mapping[str, str]:
        """All that shapes its output, by name: model, prompt, preprocessing, sampling, version of the code."""
        ...

    def open(self) -> StageWorker:
        """Build the worker. Raises UsageError for a model that cannot be loaded, MissingExtra without its framework."""
        ...


def result_schema(columns: pa.Schema) -> pa.Schema:
    """Of a stage's tables and sidecars."""
    key, status = pa.field(KEY, pa.string(), nullable=False), pa.field(STATUS, pa.string(), nullable=False)
    return pa.schema([key, *columns, status, pa.field(ERROR, pa.string())])


def result_table(
    columns: pa.Schema,
    *,
    keys: "pa.Array[Any]",
    values: Mapping[str, "pa.Array[Any]"],
    endings: Sequence[tuple[str, str | None]],
) -> pa.Table:
    """A batch's answer. endings: status and error of each row."""
    statuses, errors = [status for status, _ in endings], [error for _, error in endings]
    arrays = [keys, *(values[name] for name in columns.names), pa.array(statuses), pa.array(errors, pa.string())]
    return pa.Table.from_arrays(arrays, schema=result_schema(columns))
