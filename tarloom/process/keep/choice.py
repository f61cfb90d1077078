"""Which samples a curated copy takes: evaluated shard by shard from parquet alone, remembered as one bit a sample."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import UsageError
from tarloom.process.keep.config import KeepConfig
from tarloom.read.dataset import Dataset, open_dataset
from tarloom.read.plan.catalog import cached_index
from tarloom.read.plan.picking import numbers_of
from tarloom.read.plan.pieces import WHOLE_SHARD, Array, Piece
from tarloom.read.samples.ahead import ahead, threads_for


class Chosen:
    """The samples for which the condition is true, and those alone whose keys are given, if any are.

    Raises UsageError for a condition that cannot work, or where nothing is asked for.
    """

    def __init__(self, config: KeepConfig, keys: "pa.Array[Any] | pa.ChunkedArray[Any] | None" = None) -> None:
        if not config.keep_if and keys is None:
            raise UsageError("keep_if is empty; say which samples to keep, such as: caption.text = txt")
        dataset = open_dataset(config.path).joining(config.missing)
        self.dataset: Dataset = (dataset.where(config.keep_if) if config.keep_if else dataset).select()
        self._keys: Array | None = None if keys is None else _sorted(keys)
        self._config = config

    @property
    def options(self) -> Mapping[str, str]:
        """What tells this choice from another one, for the plan."""
        options = {"keep_if": json.dumps(self._config.keep_if), "missing": json.dumps(self._config.missing)}
        return options if self._keys is None else options | {"keep_keys": json.dumps(_digest(self._keys))}

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(count for count, _ in self._bits.values())

    @property
    def samples(self) -> int:
        """How many were looked at."""
        return sum(piece.rows for piece in self._shards)

    def numbers(self, shard: str) -> np.ndarray:
        """Of a shard's samples that are taken, ascending."""
        count, bits = self._bits.get(shard, (0, np.zeros(0, np.uint8)))
        return np.flatnonzero(np.unpackbits(bits))[:count]

    @cached_property
    def _shards(self) -> list[Piece]:
        return self.dataset.pieces(WHOLE_SHARD)

    @cached_property
    def _bits(self) -> dict[str, tuple[int, np.ndarray]]:
        """Of each shard, how many are taken, and which: a bit for each of its samples."""
        passing = ahead(self._passing, self._shards, threads=threads_for(self.dataset.catalog.storage))
        return {
            piece.shard: (int(mask.sum()), np.packbits(mask)) for piece, mask in zip(self._shards, passing, strict=True)
        }

    def _passing(self, piece: Piece) -> np.ndarray:
        mask = np.zeros(piece.rows, bool)
        mask[numbers_of(piece)] = True
        if self._keys is not None:
            keys = cached_index(piece.storage, piece.shard, piece.tar, piece.identity).keys
            mask &= pc.is_in(keys, value_set=self._keys).to_numpy(zero_copy_only=False)
        return mask


def _sorted(keys: "pa.Array[Any] | pa.ChunkedArray[Any]") -> Array:
    """The keys, each once: their order does not matter."""
    found: Any = pc.unique(keys.cast(pa.string())).drop_null()
    return cast(Array, found.take(pc.sort_indices(found)))


def _digest(keys: Array) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(keys.to_pylist()).encode()).hexdigest()}"
