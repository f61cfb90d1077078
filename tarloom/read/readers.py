"""All readers under their names, and the job that runs one over a whole dataset."""

import importlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from tarloom.errors import ShardError, UsageError
from tarloom.read.dataset import Dataset, open_dataset
from tarloom.read.digest import Digest
from tarloom.read.scan import ScanConfig, Tallier, Tally

ReaderName = Literal["plain", "webdataset", "ray_actor", "ray_data", "ray_data_webdataset", "spark", "torch"]
READERS: Final[dict[ReaderName, str]] = {
    "plain": "tarloom.read.plain",
    "webdataset": "tarloom.read.with_webdataset",
    "ray_actor": "tarloom.read.ray_actors",
    "ray_data": "tarloom.read.ray_data",
    "ray_data_webdataset": "tarloom.read.ray_webdataset",
    "spark": "tarloom.read.spark",
    "torch": "tarloom.read.torch_feed",
}
"""The module of each reader, imported when it is used. It has what `Reader` says."""


class Reader(Protocol):
    """What a reader's module offers."""

    def session(self, config: ScanConfig) -> AbstractContextManager[None]:
        """Start what the reader needs and stop it afterwards, unless it was running before."""
        ...

    def scan(self, dataset: Dataset, config: ScanConfig, tallier: Tallier) -> Iterator[Tally]:
        """Read every sample once; tallies as they come."""
        ...


@dataclass(frozen=True, kw_only=True)
class ScanSummary:
    """How a scan ended."""

    reader: str
    rows: int
    bytes: int
    """Of the members read."""
    seconds: float
    """From the first request to the last row, the engine's start left out."""
    samples_per_second: float
    digest: str | None
    samples: list[str] = field(default_factory=list)
    """A line for each sample shown."""


class ScanJob:
    """One reader over one dataset: prepare, iterate to the end, then ask for the summary."""

    def __init__(self, reader: ReaderName, config: ScanConfig) -> None:
        self.reader = reader
        self.config = config
        self.total = 0
        self._tally = Tally(digest=Digest() if config.digest else None)
        self._seconds = 0.0
        self._dataset: Dataset | None = None
        self._module: Reader | None = None

    def prepare(self) -> None:
        """Open the dataset and count its rows. Raises UsageError and ShardError before an engine is started."""
        self.config.check()
        if self.reader not in READERS:
            raise UsageError(f"no reader {self.reader!r}; use one of {', '.join(READERS)}")
        self._module = importlib.import_module(READERS[self.reader])
        dataset = open_dataset(self.config.path)
        self._dataset = dataset.select(*self.config.select) if self.config.select else dataset
        self.total = len(self._dataset)

    def __iter__(self) -> Iterator[Tally]:
        """Tallies of parts as they come. Raises ShardError if rows were lost or doubled on the way."""
        if self._dataset is None or self._module is None:
            self.prepare()
        assert self._dataset is not None
        assert self._module is not None
        tallier = Tallier(members=self._dataset.members, digest=self.config.digest, show=self.config.show)
        with self._module.session(self.config):
            start = time.monotonic()
            for tally in self._module.scan(self._dataset, self.config, tallier):
                self._tally.merge(tally, show=self.config.show)
                self._seconds = time.monotonic() - start
                yield tally
        if self._tally.rows != self.total:
            found = f"{self.reader} read {self._tally.rows} samples, but the indexes say {self.total}"
            raise ShardError(f"{self.config.path}: {found}; run: tarloom verify {self.config.path}")

    def summary(self) -> ScanSummary:
        """What has been read so far."""
        tally = self._tally
        return ScanSummary(
            reader=self.reader,
            rows=tally.rows,
            bytes=tally.bytes,
            seconds=round(self._seconds, 3),
            samples_per_second=round(tally.rows / self._seconds, 1) if self._seconds else 0.0,
            digest=None if tally.digest is None else tally.digest.hex,
            samples=[", ".join(f"{name}: {value}" for name, value in sample.items()) for sample in tally.samples],
        )
