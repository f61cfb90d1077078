"""One batch job, from samples to a table of embeddings. Where there are no shards, they are made while others are
embedded.

    OUTPUT/embeddings.parquet    key, url, caption, embedding: one row for every sample that has a vector, in order
    OUTPUT/metadata.json         what was done and what failed, and why; written last
    OUTPUT/shards/               where the input was a list: shards made of it, with their sidecars

Sidecars lie beside the shards, as always: they say of every sample what became of it, and a job that is started again
goes on where the last one stopped. The table is written anew from them, a row group at a time.
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from tarloom import __version__
from tarloom.engines.base import Engine, Report
from tarloom.errors import UsageError
from tarloom.format.layout import metadata_name
from tarloom.format.metadata import SUCCESS
from tarloom.format.parquet import read_table
from tarloom.format.sidecar import ERROR
from tarloom.process.config import ProcessConfig
from tarloom.process.embed.stage import EmbedStage
from tarloom.process.images.creating import Creation
from tarloom.process.images.job import has_shards
from tarloom.process.job import ProcessJob
from tarloom.process.models import model_location
from tarloom.process.search.query import MODEL, PARQUET
from tarloom.process.search.vectors import EMBEDDING, FINGERPRINT, SidecarVectors
from tarloom.process.service.loader import UnifiedDataLoader
from tarloom.process.service.writer import UnifiedOutputWriter
from tarloom.process.stage import Stage
from tarloom.process.task import ShardReport
from tarloom.read.dataset import Dataset, open_dataset
from tarloom.read.plan.catalog import Catalog

METADATA = "metadata.json"
SHARDS = "shards"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the job, to be iterated over to its end before the next one is asked for."""

    title: str
    total: int | None
    """Rows, where it is known how many there will be."""
    steps: Iterator[Report]


@dataclass(frozen=True, kw_only=True)
class BatchSummary:
    """What a job did. rows = embeddings + all of failed_by_error, unless shards failed."""

    rows: int
    """Samples asked for; of a list, those rows of it that were tried."""
    embeddings: int
    """Rows of the table."""
    dimension: int | None
    """Numbers of each vector; None where there is no table."""
    failed_by_error: Mapping[str, int]
    """Rows without a vector by the name of the error (docs/errors.md)."""
    failed_shards: Mapping[str, str]
    """Shards that are not done, and why; their rows are not in the table. Run the same job again for those."""
    shards: str
    """Where shards and sidecars lie."""
    embeddings_at: str | None
    """The table's address; None where no shard could be done."""
    seconds: float
    rows_per_second: float


class BatchInferenceOrchestrator:
    """Embeds all samples of a loader. Raises UsageError for options that cannot work.

    model_directory: a CLIP or SigLIP model's folder, or its name on the hub. engine: where the work runs; it is left
    open. name: of the sidecars.
    """

    def __init__(
        self, model_directory: str, *, engine: Engine, batch_size: int = EmbedStage.batch_size, name: str = "clip"
    ) -> None:
        self._stage: Stage = EmbedStage(model=model_directory, batch_size=batch_size)
        self._stage.check()
        self._model, self._engine, self._name = model_directory, engine, name
        self._forget()

    def _forget(self) -> None:
        """What an earlier dataset has come to."""
        self._errors: Counter[str] = Counter()
        self._failed: dict[str, str] = {}
        self._rows = self._embeddings = 0
        self._dimension: int | None = None

    def process_dataset(
        self, loader: UnifiedDataLoader, writer: UnifiedOutputWriter, *, max_samples: int | None = None
    ) -> BatchSummary:
        """Do it all, in silence."""
        with closing(self.phases(loader, writer, max_samples=max_samples)) as phases:
            for phase in phases:
                for _ in phase.steps:
                    pass
        return self.summary()

    def phases(
        self, loader: UnifiedDataLoader, writer: UnifiedOutputWriter, *, max_samples: int | None = None
    ) -> Generator[Phase, None, None]:
        """The parts of the job, one after the other; close it after use.

        max_samples: the first so many samples, and of a list, rows; shards are processed whole.
        """
        if max_samples is not None and max_samples < 1:
            raise UsageError(f"max_samples must be at least 1, not {max_samples}")
        loader.check_apart(writer.storage)
        self._forget()
        self._started, self._writer = time.monotonic(), writer
        whole = loader.dataset() if loader.is_shards else None
        self._shards = writer.storage.describe(SHARDS) if whole is None else whole.url
        logger.info("embedding %s with %s into %s", loader.input_dir, self._model, writer.output_dir)
        self._job = job = ProcessJob(self._stage, ProcessConfig(path=self._shards, name=self._name), self._engine)
        job.check()
        if whole is not None:
            chosen = _first_shards(whole, max_samples)
            yield Phase(title="embedding", total=len(chosen), steps=self._embedded(job, chosen, of=whole))
            with_sidecars = _first_shards(open_dataset(self._shards), max_samples)
            beyond = 0 if max_samples is None else max(0, len(with_sidecars) - max_samples)
        else:
            # many shards of an earlier run are looked at faster than one by one
            goes_on = max_samples is None and has_shards(self._shards)
            if goes_on:
                job.prepare()
            with closing(loader.creation(self._shards, rows=max_samples, watch=_made)) as creation:
                planned = creation.planned()
                steps = self._followed(job, creation, done_before=not goes_on)
                yield Phase(title="downloading and embedding", total=planned.rows, steps=steps)
            with_sidecars = _part(open_dataset(self._shards), planned.shards)  # others may be there, not embedded yet
            rows = None if max_samples is None else max_samples - loader.rows_per_shard * (len(planned.shards) - 1)
            beyond = self._beyond(with_sidecars, planned.shards[-1], rows)
        yield Phase(title="writing", total=len(with_sidecars) - beyond, steps=self._written(with_sidecars, beyond))
        self._write_metadata(loader, max_samples)

    def summary(self) -> BatchSummary:
        """Of what has been done so far."""
        seconds = time.monotonic() - self._started
        return BatchSummary(
            rows=self._rows,
            embeddings=self._embeddings,
            dimension=self._dimension,
            failed_by_error=dict(sorted(self._errors.items())),
            failed_shards=dict(sorted(self._failed.items())),
            shards=self._shards,
            embeddings_at=None if self._dimension is None else self._writer.storage.describe(PARQUET),
            seconds=round(seconds, 3),
            rows_per_second=round(self._rows / seconds, 1),
        )

    @property
    def reports(self) -> Sequence[ShardReport]:
        """Of the shards that are embedded, those of earlier runs first."""
        return self._job.reports

    def _followed(self, job: ProcessJob, creation: Creation, *, done_before: bool) -> Iterator[Report]:
        """Each shard is embedded while the next ones are made."""
        for report in job.follow(creation.shards(done_before=done_before)):
            yield _logged(report, "embedded")
        created = creation.summary()
        self._rows += sum(created.failed_by_error.values())
        self._errors.update(created.failed_by_error)
        self._failed |= {**created.failed_shards, **job.summary().failed_shards}

    def _embedded(self, job: ProcessJob, chosen: Dataset, *, of: Dataset) -> Iterator[Report]:
        """These shards of a dataset."""
        names = [files.shard for files in chosen.shards]
        if len(names) == len(of.shards):
            job.prepare()
        for report in job if len(names) == len(of.shards) else job.follow(names):
            yield _logged(report, "embedded")
        self._failed |= job.summary().failed_shards

    def _beyond(self, dataset: Dataset, last: str, rows: int | None) -> int:
        """How many samples the last shard of a list has that are not of its first rows. Others of these rows have
        failed, which is nobody's concern: they are counted no longer."""
        if rows is None or last not in [files.shard for files in dataset.shards]:
            return 0
        others = read_table(dataset.catalog.storage, metadata_name(last), ["status", "error"]).slice(rows)
        failed = others.filter(pc.not_equal(others.column("status"), pa.scalar(SUCCESS)))
        self._errors -= Counter(map(str, failed.column("error").to_pylist()))
        self._rows -= failed.num_rows
        return others.num_rows - failed.num_rows

    def _written(self, chosen: Dataset, beyond: int) -> Iterator[Report]:
        """The table, from the sidecars of the shards that are done. beyond: samples of the last shard to leave out."""
        done = _part(chosen, {files.shard for files in chosen.shards} - self._failed.keys())
        if not done.shards:
            return
        samples = len(done) - (beyond if done.shards[-1].shard == chosen.shards[-1].shard else 0)
        vectors = SidecarVectors(dataset=done, name=self._name)
        schema = vectors.schema
        footer = {
            FINGERPRINT: json.dumps(dict(self._stage.fingerprint()), sort_keys=True),
            MODEL: model_location(self._model),
        }
        batches = self._counted(vectors, samples)
        for rows in self._writer.write_parquet(PARQUET, schema, batches, footer):
            self._embeddings += rows
            yield Report(shard=PARQUET, rows=rows)
        self._dimension = schema.field(EMBEDDING).type.list_size
        logger.info("%s: %d rows", self._writer.storage.describe(PARQUET), self._embeddings)

    def _counted(self, vectors: SidecarVectors, samples: int) -> Iterator[pa.RecordBatch]:
        """Of the first samples those with a vector, while those without one are counted by their errors."""
        left = samples
        for batch in vectors.all_rows():
            batch = batch.slice(0, left)
            left -= batch.num_rows
            self._rows += batch.num_rows
            self._errors.update(map(str, batch.column(ERROR).drop_null().to_pylist()))
            yield batch.filter(batch.column(EMBEDDING).is_valid()).drop_columns([ERROR])
            if not left:
                return

    def _write_metadata(self, loader: UnifiedDataLoader, max_samples: int | None) -> None:
        summary = self.summary()
        asked = {"input_dir": loader.input_dir, "model_directory": self._model, "max_samples": max_samples}
        made_by = {"fingerprint": dict(self._stage.fingerprint()), "tarloom": __version__, "finished": _now()}
        self._writer.write_json(METADATA, {**asked, **asdict(summary), **made_by})
        logger.info("done: %d rows, %d embeddings, %s", summary.rows, summary.embeddings, dict(self._errors))


def _first_shards(dataset: Dataset, rows: int | None) -> Dataset:
    """The first shards that hold so many rows."""
    if rows is None:
        return dataset
    count, names = 0, []
    for files, facts in zip(dataset.shards, dataset.catalog.facts(), strict=True):
        if count >= rows:
            break
        count += facts.rows
        names.append(files.shard)
    return _part(dataset, set(names))


def _part(dataset: Dataset, names: Collection[str]) -> Dataset:
    """These shards of a dataset."""
    shards = [files for files in dataset.shards if files.shard in names]
    return replace(dataset, catalog=Catalog(dataset.catalog.storage, shards))


def _made(report: Report) -> None:
    _logged(report, "made")


def _logged(report: Report, what: str) -> Report:
    errors = f", {dict(report.errors)}" if report.errors else ""
    before = " before" if report.skipped else f" in {report.seconds:.1f} s"
    logger.info("shard %s: %s%s, %d of %d rows%s", report.shard, what, before, report.successes, report.rows, errors)
    return report


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
