"""A curated copy: shards with only the samples that a condition holds for, their metadata and sidecars beside them.

It is creation from shards (create/repack), told which samples to take: planned, resumed, and spread over any engine as
every creation is. Keys and bytes stay as they are; the condition is written into the copy's plan.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tarloom.create.job import CreateJob
from tarloom.engines.base import Engine, Report
from tarloom.errors import UsageError
from tarloom.process.keep.choice import Chosen
from tarloom.process.keep.config import KeepConfig


@dataclass(frozen=True, kw_only=True)
class KeepSummary:
    """What was kept, shards that an earlier run had done included."""

    samples: int
    """Of the dataset."""
    kept: int
    share: float
    """Kept of all, from 0 to 1."""
    shards: int
    """Of the copy that are done."""
    skipped: int
    """Shards that an earlier run had done."""
    failed_shards: Mapping[str, str]
    """Shards that could not be made, and why."""
    bytes: int
    """Of the members that this run wrote."""
    seconds: float


class KeepJob:
    """Call `prepare`, then iterate: one report a shard of the copy, in any order; then ask for the summary.

    samples: take these alone, by shard, their numbers in the tar.
    """

    def __init__(self, config: KeepConfig, engine: Engine, samples: Mapping[str, np.ndarray] | None = None) -> None:
        self._config, self._engine, self._samples = config, engine, samples
        self._started = time.monotonic()
        self.total = 0
        """Samples to keep."""

    def prepare(self) -> None:
        """Find the samples, and plan their shards. Raises UsageError, ShardError or StorageError before any work."""
        self._config.check()
        self._chosen = Chosen(self._config, self._samples)
        if not self._chosen.count:
            what = f"keep_if {self._config.keep_if!r} is true of" if self._config.keep_if else "the answer has"
            raise UsageError(f"{self._config.path}: {what} none of {self._chosen.samples} samples; nothing to keep")
        self._creation = CreateJob(self._config.creation(), self._engine, self._chosen)
        self._creation.prepare()
        self.total = self._creation.total

    def __iter__(self) -> Iterator[Report]:
        """Make the shards that are not done yet. Raises EngineError where the run cannot go on."""
        return iter(self._creation)

    def summary(self) -> KeepSummary:
        """The counts so far."""
        made, samples = self._creation.summary(), self._chosen.samples
        return KeepSummary(
            samples=samples,
            kept=made.successes,
            share=round(made.successes / samples, 4),
            shards=made.shards,
            skipped=made.skipped,
            failed_shards=made.failed_shards,
            bytes=made.bytes,
            seconds=round(time.monotonic() - self._started, 3),
        )
