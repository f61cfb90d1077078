"""The base of stages that look at one picture at a time: a subclass says which columns there are and what it sees.

docs/own_stage.py is one to copy. Pictures are looked at in threads: numpy, Pillow and cv2 release the GIL where they
work long.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from tarloom.engines.crew import describe
from tarloom.errors import EngineError, RowError, ShardError, UsageError
from tarloom.format.arrow_types import Array
from tarloom.format.cpus import cpu_share
from tarloom.format.retyped import holds
from tarloom.format.sidecar import FAILED
from tarloom.process.batch import AT_LEAST, Batch, Picture
from tarloom.process.stage import Ending, Stage, StageWorker, result_table

Answer = tuple[Mapping[str, Any], Ending]
"""Values of columns, by name, and how the row ends; a column without a value is null."""


@dataclass(frozen=True, kw_only=True)
class PictureStage(Stage):
    """Subclasses are frozen dataclasses too; their fields are options, and part of the fingerprint."""

    batch_size: int = 256
    """Pictures under way at a time: what a killed run repeats at most."""

    calls: ClassVar[int] = 2
    columns: ClassVar[Mapping[str, pa.DataType]]
    """What it adds: names and types, without the key, status and error."""
    version: ClassVar[str] = "1"
    """Of what the code makes of the options; a change of answers changes it, so that old sidecars are told apart."""

    @abstractmethod
    def look(self, rgb: np.ndarray) -> Mapping[str, Any]:
        """Values of the columns. rgb: uint8 of shape (height, width, 3), shared with other stages: not to be changed.

        Raises RowError(name, reason) for a picture that has no answer: its row fails by this name.
        """

    def answer(self, picture: Picture) -> Answer:
        """A row's values and ending. To be replaced by stages that have something to say without pixels too."""
        if picture.rgb is None:
            return {}, picture.ending
        try:
            return self.look(picture.rgb), picture.ending
        except RowError as error:
            return {}, (FAILED, error.name)

    def check(self) -> None:
        """Raises UsageError for options that cannot work."""
        if self.batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, not {self.batch_size}")

    def fingerprint(self) -> Mapping[str, str]:
        options = {field.name: str(getattr(self, field.name)) for field in fields(self) if field.name != "batch_size"}
        return {"stage": type(self).name, "version": self.version, **options}

    def open(self) -> StageWorker:
        return _Looker(self)


class _Looker:
    """Answers batches, picture by picture."""

    def __init__(self, stage: PictureStage) -> None:
        self.columns = pa.schema(stage.columns)
        self._stage = stage
        self._threads = ThreadPoolExecutor(cpu_share(), thread_name_prefix=f"tarloom-{stage.name}")

    def __call__(self, batch: Batch) -> pa.Table:
        pictures = batch.pictures(self._stage.at_least or AT_LEAST)
        keys = batch.keys.to_pylist()
        answers = list(self._threads.map(self._answer, keys, pictures))
        given = {column: [values.get(column.name) for values, _ in answers] for column in self.columns}
        return result_table(
            self.columns,
            keys=batch.keys,
            values={column.name: _column(column, keys, values) for column, values in given.items()},
            endings=[ending for _, ending in answers],
        )

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)  # of a batch that nobody waits for: after Ctrl-C

    def _answer(self, key: str, picture: Picture) -> Answer:
        """Raises EngineError for values of no column: they would be left out, of every picture."""
        try:
            values, ending = self._stage.answer(picture)
        except (UsageError, EngineError):
            raise
        except Exception as error:
            raise ShardError(f"key {key}: {describe(error)}") from error
        if not isinstance(values, Mapping) or not values.keys() <= set(self.columns.names):
            wanted = f"values of its columns, {', '.join(self.columns.names)}"
            raise EngineError(
                f"stage {self._stage.name}, key {key}: look answered with {values!r:.80}, not with {wanted}"
            )
        return values, ending


def _column(column: "pa.Field[Any]", keys: Sequence[Any], values: Sequence[Any]) -> Array:
    """Raises ShardError for a value that the column cannot hold, by its key."""
    try:
        return _array(values, column.type)
    except Exception:
        for key, value in zip(keys, values, strict=True):
            try:
                _array([value], column.type)
            except Exception as error:
                what = f"{value!r:.80} is no {column.type}"
                raise ShardError(f"key {key}: column {column.name}: {what}: {describe(error)}") from error
        raise


def _array(values: Sequence[Any], kind: pa.DataType) -> Array:
    """Raises ShardError for fractions among whole numbers, which Arrow cuts off without a word."""
    made: Array = pa.array(values, kind)
    if holds(kind, pa.types.is_integer) and not all(map(_is_kept, made.to_pylist(), values)):
        raise ShardError("it has a fraction; round it, or make the column one of floats")
    return made


def _is_kept(kept: Any, given: Any) -> bool:
    """Whether the numbers of a value, those in lists and structs included, are those that were given."""
    if isinstance(kept, list):
        return all(map(_is_kept, kept, given))
    if isinstance(kept, dict) and isinstance(given, Mapping):
        return all(_is_kept(value, given.get(name)) for name, value in kept.items())
    return not isinstance(kept, int) or bool(kept == given)
