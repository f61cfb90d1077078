"""Which samples a curated copy takes: evaluated shard by shard from parquet alone, remembered as one bit a sample."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from tarloom.errors import UsageError
from tarloom.format.ahead import ahead_where_it_waits
from tarloom.process.keep.config import KeepConfig
from tarloom.read.dataset import Dataset, open_dataset
from tarloom.read.plan.picking import numbers_of
from tarloom.read.plan.pieces import WHOLE_SHARD, Piece


class Chosen:
    """The samples for which the condition is true, and those alone that are given, if any are: by shard, their numbers.

    Raises UsageError for a condition that cannot work, or where nothing is asked for.
    """

    def __init__(self, config: KeepConfig, given: Mapping[str, np.ndarray] | None = None) -> None:
        if not config.keep_if and given is None:
            raise UsageError("keep_if is empty; say which samples to keep, such as: caption.text = txt")
        dataset = open_dataset(config.path).joining(config.missing)
        chosen = dataset.where(config.keep_if, option="keep_if") if config.keep_if else dataset
        self.dataset: Dataset = chosen.select()
        self._config, self._given = config, given

    @property
    def options(self) -> Mapping[str, str]:
        """What tells this choice from another one, for the plan."""
        options = {"keep_if": json.dumps(self._config.keep_if), "missing": json.dumps(self._config.missing)}
        return options if self._given is None else options | {"keep_samples": json.dumps(_digest(self._given))}

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
        passing = ahead_where_it_waits(self._passing, self._shards, self.dataset.catalog.storage)
        return {
            piece.shard: (int(mask.sum()), np.packbits(mask)) for piece, mask in zip(self._shards, passing, strict=True)
        }

    def _passing(self, piece: Piece) -> np.ndarray:
        mask = np.zeros(piece.rows, bool)
        mask[numbers_of(piece)] = True
        if self._given is not None:
            given = np.zeros(piece.rows, bool)
            given[self._given.get(piece.shard, [])] = True
            mask &= given
        return mask


def _digest(given: Mapping[str, np.ndarray]) -> str:
    """Of the samples, whatever their order and however often each is there."""
    numbers = {shard: np.unique(given[shard]).tolist() for shard in sorted(given)}
    return f"sha256:{hashlib.sha256(json.dumps(numbers).encode()).hexdigest()}"
