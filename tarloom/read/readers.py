"""All readers under their names, and the job that runs one over a whole dataset."""

import contextlib
import importlib
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Final, Literal, Protocol

from tarloom.errors import ShardError, StorageError, UsageError
from tarloom.read.dataset import Dataset, open_dataset
from tarloom.read.digest import Digest
from tarloom.read.ledger import Ledger, Skipped
from tarloom.read.samples.to_arrow import check_batches
from tarloom.read.scan import ScanConfig, Tallier, Tally
from tarloom.read.view import View

ReaderName = Literal["plain", "webdataset", "ray_actor", "ray_data", "ray_data_webdataset", "spark", "torch"]
READERS: Final[dict[ReaderName, str]] = {
    "plain": "tarloom.read.plain",
    "webdataset": "tarloom.read.with_webdataset",
    "ray_actor": "tarloom.read.ray.actors",
    "ray_data": "tarloom.read.ray.data",
    "ray_data_webdataset": "tarloom.read.ray.webdataset",
    "spark": "tarloom.read.spark.frames",
    "torch": "tarloom.read.with_torch",
}
"""The module of each reader, imported when it is used. It has what `Reader` says."""
IN_BATCHES: Final = frozenset({"plain", "ray_actor", "ray_data", "spark"})
"""Readers of Arrow batches; the others are of samples."""


class Reader(Protocol):
    """What a reader's module offers. One that cannot read all datasets has `check(dataset)`, too, which raises
    UsageError for those."""

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
    skipped: int = 0
    """Samples that could not be read, whether or not they are among the rows."""
    errors: dict[str, int] = field(default_factory=dict)
    """How many, by the name of what happened; a shard that could not be opened counts as one."""
    samples: list[str] = field(default_factory=list)
    """A line for each sample shown."""


class ScanJob:
    """One reader over one dataset: prepare, iterate to the end, then ask for the summary."""

    def __init__(self, reader: ReaderName, config: ScanConfig) -> None:
        self.reader = reader
        self.config = config
        self.total = 0
        ledger = Ledger(max_skipped=config.max_skipped, max_in_a_row=config.max_in_a_row)
        self._tally = Tally(digest=Digest() if config.digest else None, ledger=ledger)
        self._seconds = 0.0
        self._dataset: Dataset | None = None
        self._module: Reader | None = None

    def prepare(self) -> None:
        """Open the dataset and count its rows. Raises UsageError and ShardError before an engine is started."""
        self.config.check()
        if self.reader not in READERS:
            raise UsageError(f"no reader {self.reader!r}; use one of {', '.join(READERS)}")
        self._module = importlib.import_module(READERS[self.reader])
        self._dataset = _chosen(open_dataset(self.config.path), self.config)
        if self.reader in IN_BATCHES:
            check_batches(self._dataset.view)
        getattr(self._module, "check", lambda dataset: None)(self._dataset)
        self.total = len(self._dataset)

    def __iter__(self) -> Iterator[Tally]:
        """Tallies of parts as they come. Raises ShardError if rows were lost or doubled on the way."""
        if self._dataset is None or self._module is None:
            self.prepare()
        assert self._dataset is not None
        assert self._module is not None
        with _ledger_file(self.config.ledger) as write, self._module.session(self.config):
            start = time.monotonic()
            for tally in itertools.chain([_unopened(self._dataset)], self._scan(self._module, self._dataset)):
                write(tally.ledger.entries)
                self._tally.merge(tally, show=self.config.show)
                self._seconds = time.monotonic() - start
                yield tally
        self._check_complete(self._dataset.view)

    def _scan(self, module: Reader, dataset: Dataset) -> Iterator[Tally]:
        as_json = frozenset(member for member, form in dataset.view.decode if form == "json")
        tallier = Tallier(
            members=dataset.members,
            digest=self.config.digest,
            show=self.config.show,
            json=as_json,
            skip=self.config.on_error == "skip",
        )
        return module.scan(dataset, self.config, tallier)

    def _check_complete(self, view: View) -> None:
        """Raises ShardError if rows were lost or doubled on the way."""
        left_out = self._tally.ledger.rows if self.config.on_error == "skip" else 0
        known = view.join != "skip" and (view.where is None or view.on_error == "raise")
        if known and self._tally.rows + left_out != self.total:
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
            skipped=tally.ledger.rows,
            errors=dict(tally.ledger.counts),
            samples=[", ".join(f"{name}: {value}" for name, value in sample.items()) for sample in tally.samples],
        )


def _chosen(dataset: Dataset, config: ScanConfig) -> Dataset:
    """What the options choose of a dataset. Failed samples come as rows from every engine, to be counted here."""
    if config.on_error != "raise":
        dataset = dataset.on_error("row")
    if config.select:
        dataset = dataset.select(*config.select)
    if config.where is not None:
        dataset = dataset.where(config.where)
    return dataset.joining(config.join).decoding_as(config.decode)


def _unopened(dataset: Dataset) -> Tally:
    """The tally of shards that cannot be opened: of no sample."""
    tally = Tally()
    for error in dataset.catalog.broken.values():
        tally.ledger.skip(Skipped.of_file(error, rows=0))
    return tally


@contextlib.contextmanager
def _ledger_file(path: str | None) -> Iterator[Callable[[Iterable[Skipped]], None]]:
    """Writes entries into the file, a line of JSON for each. Raises UsageError where there can be no such file,
    StorageError where an entry cannot be written."""
    if path is None:
        yield lambda entries: None
        return
    try:
        file = open(path, "w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"{path}: the ledger cannot be written: {error.strerror}; choose another file") from error

    def write(entries: Iterable[Skipped]) -> None:
        try:
            file.writelines(f"{json.dumps(asdict(entry))}\n" for entry in entries)
            file.flush()
        except OSError as error:
            message = (
                f"{path}: the ledger cannot be written: {error.strerror}; free space there, or choose another file"
            )
            raise StorageError(message) from error

    try:
        yield write
    finally:
        with contextlib.suppress(OSError):  # which was said when an entry was written
            file.close()
