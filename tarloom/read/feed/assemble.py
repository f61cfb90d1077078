"""A batch: a dict of numpy arrays where values stack, of lists where they don't; pictures decoded in threads."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tarloom.errors import RowError
from tarloom.read.feed.chance import uniform
from tarloom.read.feed.fetch import Fetched
from tarloom.read.feed.order import Places
from tarloom.read.feed.pictures import DRAWS, Fit
from tarloom.read.ledger import Skipped
from tarloom.read.plan.pieces import ChunkedArray
from tarloom.read.samples.decode import decode_pil, decode_rgb
from tarloom.read.samples.decoders import decode_text, parse_json
from tarloom.read.view import DecodeAs

Batch = dict[str, Any]
Decode = DecodeAs | Fit
_DECODERS: Mapping[str, Any] = {"rgb": decode_rgb, "pil": decode_pil, "json": parse_json, "text": decode_text}
_TASK = 16
"""Samples that a thread decodes at a time."""


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """How samples become a batch."""

    decode: Mapping[str, Decode]
    """Members, and what they are decoded to; all others stay bytes."""
    seed: int

    def batch(self, samples: Fetched, pool: Executor) -> tuple[Batch, dict[int, Skipped]]:
        """The batch, and which of its samples could not be decoded."""
        errors: dict[int, Skipped] = {}
        batch: Batch = {"__key__": list(samples.keys)}
        for name, values in samples.members.items():
            batch[name] = self._member(name, values, samples, pool, errors)
        for name, column in samples.columns.items():
            batch[name] = stacked_column(column)
        return batch, errors

    def _member(
        self,
        name: str,
        values: Sequence[memoryview | None],
        samples: Fetched,
        pool: Executor,
        errors: dict[int, Skipped],
    ) -> Any:
        decode = self.decode.get(name)
        if decode is None:
            return [None if value is None else bytes(value) for value in values]
        shape = None if isinstance(decode, str) else (len(values), *decode.shape, 3)
        out: Any = [None] * len(values) if shape is None else np.zeros(shape, np.uint8)
        draws, keys = _draws(self.seed, samples.places), samples.keys

        def run(first: int) -> None:
            for row in range(first, min(first + _TASK, len(values))):
                try:
                    _decode_into(decode, values[row], out, row, draws[row])
                except RowError as error:
                    errors[row] = Skipped(where="", key=keys[row], name=error.name, reason=f"{name}: {error.reason}")

        for done in [pool.submit(run, first) for first in range(0, len(values), _TASK)]:
            done.result()
        return stacked(out) if shape is None else out


def stacked(values: list[Any]) -> Any:
    """One array where all are arrays of one shape, else the list."""
    shapes = {getattr(value, "shape", None) for value in values}
    return np.stack(values) if len(shapes) == 1 and None not in shapes else values


def stacked_column(column: ChunkedArray) -> Any:
    """Numbers and fixed-size vectors as an array, all else as a list of Python values."""
    kind = column.type
    if column.null_count:
        return column.to_pylist()
    if pa.types.is_fixed_size_list(kind):
        array: Any = column.combine_chunks()
        return array.flatten().to_numpy(zero_copy_only=False).reshape(len(column), kind.list_size)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return column.to_numpy()
    return column.to_pylist()


def _draws(seed: int, places: Places) -> np.ndarray:
    """Numbers by chance of each sample in its pass, whoever reads it: float64 of shape (samples, DRAWS)."""
    columns = [
        uniform(seed, "picture", places.sources, places.passes, places.shards, places.rows, number)
        for number in range(DRAWS)
    ]
    return np.stack(columns, axis=1)


def _decode_into(decode: Decode, value: memoryview | None, out: Any, row: int, draws: np.ndarray) -> None:
    if isinstance(decode, str):
        out[row] = None if value is None else _DECODERS[decode](value)
    elif value is not None:
        decode.fit(decode_rgb(value), out[row], draws)
    else:
        raise RowError("missing_member", "the sample has none")
