"""What a stage is: a small description that travels, and a worker that is built from it where the work runs.

A stage is asked about one batch of a shard's samples after the other, and answers each with a table: the same keys in
the same order, the stage's columns, and for every row a status and, unless it is success, the name of the reason.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

import pyarrow as pa

from tarloom.format.arrow_types import Array
from tarloom.format.index import KEY
from tarloom.format.layout import IMAGE_MEMBERS
from tarloom.format.sidecar import ERROR, STATUS
from tarloom.process.batch import AT_LEAST, Batch

Ending = tuple[str, str | None]
"""A row's status, and the name of the reason unless it is success."""
INPUT = "input "
"""In a sidecar's fingerprint, with a column's name behind it: what made the column that the stage saw."""


class StageWorker(Protocol):
    """Built once per process, where the work runs: holds the model."""

    @property
    def columns(self) -> pa.Schema:
        """The columns it adds, without the key, status and error."""
        ...

    def __call__(self, batch: Batch) -> pa.Table:
        """The answer to a batch, as result_table makes it.

        A sample that cannot be processed is a row with a status and an error. Equal batches give equal tables, whatever
        came before. Called from `calls` threads side by side. Raises WorkerBroken where this worker is of no more use.
        """
        ...

    def close(self) -> None:
        """Free what the worker holds."""
        ...


class Stage(ABC):
    """Describes a stage. Subclasses are frozen dataclasses: picklable, cheap, and importing no framework."""

    name: ClassVar[str]
    """Of its sidecars, unless the run names them otherwise."""
    members: ClassVar[tuple[str, ...]] = IMAGE_MEMBERS
    """Extensions of the members it wants to see; those that a dataset lacks are left out."""
    calls: ClassVar[int] = 1
    """How many batches the worker takes side by side, from as many threads. Those whose answers are being written are
    among them: with two, one is written while the worker works on the other."""
    transient: ClassVar[frozenset[str]] = frozenset()
    """Errors of rows that another day's try may not meet: asked again with --retry-failed transient."""
    counted: ClassVar[tuple[str, ...]] = ()
    """Its columns of whole numbers whose sums a run reports, such as tokens."""

    batch_size: int
    """Rows under way at a time, over all calls: what a killed run may have to repeat. Batches never cross shards, so
    that results do not depend on how work was spread."""

    @property
    def batch_rows(self) -> int:
        """Rows of a batch."""
        return max(1, self.batch_size // self.calls)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns of the metadata, of sidecars ("caption.text"), or of stages before it in the same run, that it wants
        to see. What made those is part of its sidecars' fingerprint: asked anew where they were made otherwise."""
        return ()

    @property
    def at_least(self) -> int | None:
        """Pixels that both sides of a picture must keep where it can be decoded smaller; None if it sees no pictures.

        Stages that say the same share one decoded picture.
        """
        return AT_LEAST

    def check(self) -> None:  # noqa: B027 - most have nothing that could be wrong
        """Raises UsageError where the stage cannot work, before anything is started."""

    def check_input(self, column: str, made_with: Mapping[str, str]) -> None:  # noqa: B027 - most take any
        """Raises UsageError where it cannot use a column of a sidecar with this fingerprint: before any work."""

    @abstractmethod
    def fingerprint(self) -> Mapping[str, str]:
        """All that shapes its output, by name: model, prompt, preprocessing, sampling, version of the code."""

    @abstractmethod
    def open(self) -> StageWorker:
        """Build the worker. Raises UsageError for a model that cannot be loaded, MissingExtra without its framework."""


def result_schema(columns: pa.Schema) -> pa.Schema:
    """Of a stage's tables and sidecars."""
    key, status = pa.field(KEY, pa.string(), nullable=False), pa.field(STATUS, pa.string(), nullable=False)
    return pa.schema([key, *columns, status, pa.field(ERROR, pa.string())])


def columns_of(schema: pa.Schema) -> pa.Schema:
    """A worker's, from those of its tables."""
    return pa.schema([field for field in schema if field.name not in (KEY, STATUS, ERROR)])


def result_table(
    columns: pa.Schema,
    *,
    keys: Array,
    values: Mapping[str, Array],
    endings: Sequence[Ending],
) -> pa.Table:
    """A batch's answer. endings: status and error of each row."""
    statuses, errors = [status for status, _ in endings], [error for _, error in endings]
    arrays = [keys, *(values[name] for name in columns.names), pa.array(statuses), pa.array(errors, pa.string())]
    return pa.Table.from_arrays(arrays, schema=result_schema(columns))
