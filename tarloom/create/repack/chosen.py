"""Some samples of shards as a source: those that somebody above has chosen, with what goes with them, and nothing else.

Rows that are no samples, and samples that are not chosen, stay behind; metadata keeps its columns as they are, but
for those that readers leave out.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tarloom.create.config import CreateConfig
from tarloom.create.repack.source import Shard, TarShards, readable
from tarloom.create.sources.open import source_files
from tarloom.errors import UsageError

NEEDED = {name: pa.string() for name in ("key", "status", "error_message", "error")}
"""Columns that metadata cannot do without."""


class Choice(Protocol):
    """Which samples of a folder of shards are taken. It is asked where runs are planned."""

    @property
    def options(self) -> Mapping[str, str]:
        """What it is: JSON texts by name, for the plan. Another choice has others."""
        ...

    def numbers(self, shard: str) -> npt.NDArray[np.int64]:
        """Of the samples of this shard that are taken, in the tar's order, ascending. Raises TarloomError."""
        ...


class ChosenShards(TarShards):
    """Rows are the chosen samples."""

    def __init__(self, config: CreateConfig, choice: Choice) -> None:
        files, is_folder = source_files(config)
        super().__init__(files, config, is_folder=is_folder)
        self.choice = choice

    def metadata(self, additional: pa.Schema) -> pa.Schema:
        """The columns of the new metadata: the old ones, in their order, and of their types where they may have any."""
        fields = [field.with_type(NEEDED.get(field.name, field.type)) for field in additional]
        lacking = [pa.field(name, kind) for name, kind in NEEDED.items() if name not in additional.names]
        return pa.schema([*fields, *lacking])

    def _additional(self) -> pa.Schema:
        return readable(self._metadata_schema)

    def _samples(self, shard: Shard) -> npt.NDArray[np.int64]:
        numbers = self.choice.numbers(shard.name)
        if len(numbers) and numbers[-1] >= shard.samples:
            raise UsageError(f"{self.storage.url}: shard {shard.name} has changed since its samples were chosen")
        return numbers

    def _groups(self) -> Iterator[list[Shard]]:
        return ([shard] for shard in self._shards if shard.samples)
