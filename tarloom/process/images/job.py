"""One run from a list of URLs to pictures that stages have seen: creation and processing side by side.

Creation has a process of its own. The stages take a shard as soon as it is whole, while the next ones are downloaded;
and a file of tables is written when the last of its shards is through.

    URLs -> shards (creation, in its process) -> stages (the engine's workers) -> sidecars -> tables, where wanted
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass

from tarloom.create.check import check_options
from tarloom.create.config import CreateConfig, shaping_options
from tarloom.create.summary import CreateSummary
from tarloom.engines.base import Engine, Report
from tarloom.engines.choose import EngineConfig, open_engine
from tarloom.engines.workers import parse_workers
from tarloom.errors import PlanMismatch, UsageError
from tarloom.format.layout import is_shard_file, shard_of, stats_name
from tarloom.format.storage import open_storage
from tarloom.format.storage.writable import check_writable
from tarloom.process.config import ProcessConfig
from tarloom.process.described import check_stages, fingerprints
from tarloom.process.images.config import RunOptions, SourceConfig, sized
from tarloom.process.images.creating import Creation, Planned
from tarloom.process.images.runs import named_run, new_run, unfinished_run
from tarloom.process.images.tables import Files, Tables, TableWriter
from tarloom.process.job import ProcessJob, ProcessSummary
from tarloom.process.stage import Stage
from tarloom.process.task import ShardReport

SHARDS_OF_TABLES = "_shards"
"""Where the shards lie that tables are made from: readers of parquet pass over what begins with "_"."""
OVERLAPPING = ("local", "ray")
CPUS_OF_DOWNLOADS = 0.5
"""That a worker of downloads has on Ray: it waits most of the time."""


@dataclass(frozen=True, kw_only=True)
class ImagesSummary:
    """What a run did and what lies there now."""

    folder: str
    """The run's own."""
    created: CreateSummary
    processed: ProcessSummary
    tables: int
    """Files of tables that are there."""
    seconds: float

    @property
    def failed_shards(self) -> Mapping[str, str]:
        """Why, by shard: those that could not be made, and those that could not be processed."""
        return {**self.created.failed_shards, **self.processed.failed_shards}


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who is told how far a run is: how many rows there will be, and each shard; `created` from another thread."""

    planned: Callable[[int], None] = lambda rows: None
    created: Callable[[Report], None] = lambda report: None
    processed: Callable[[ShardReport], None] = lambda report: None


class ImagesJob:
    """Prepare it, run it, then ask for the summary. Run again with the same options, it goes on where it stopped.

    words: of the command line that asked for the run, for whoever resumes it by its folder alone.
    """

    def __init__(
        self,
        source: SourceConfig,
        stages: Mapping[str, Stage],
        run_on: EngineConfig,
        options: RunOptions | None = None,
        *,
        words: Sequence[str] = (),
    ) -> None:
        self._options = options or RunOptions()
        self._source = sized(source, self._options)
        self.stages = stages
        """By the names of their sidecars."""
        self._run_on, self._words = run_on, words
        self._is_table = self._source.sharding.output_format == "parquet"
        self.reports: Sequence[ShardReport] = ()
        """What stages said about each shard; known when the run is over."""
        self._summary: ImagesSummary | None = None

    def prepare(self) -> None:
        """Check all that can be checked before anything is begun, and choose the run's folder. Raises UsageError."""
        if self._run_on.engine not in OVERLAPPING:
            raise UsageError(
                f"engine {self._run_on.engine}: this run creates and processes side by side, on local or ray; with "
                "others run create, then process"
            )
        check_options(self._source)
        check_stages(self.stages)
        if self._options.resume is not None:
            self.run = named_run(self._options.resume)
            self.run.entry()
        else:
            output, request = self._source.output, self._request()
            check_writable(open_storage(output))
            earlier = None if self._options.new_run else unfinished_run(output, request)
            self.run = earlier or new_run(output, request, self._words)
        self._dataset = f"{self.run.folder}/{SHARDS_OF_TABLES}" if self._is_table else self.run.folder

    def execute(self, watch: Watch | None = None) -> None:
        """Create and process. Raises TarloomError where one of them cannot go on; what is done stays done."""
        watch, started = watch or Watch(), time.monotonic()
        with ExitStack() as opened:
            opened.enter_context(self._session())
            engine = opened.enter_context(closing(open_engine(self._run_on)))
            job = self._process_job(engine)
            creation = opened.enter_context(closing(Creation(self._creation(), self._creating(), watch.created)))
            planned = self._planned(creation)
            watch.planned(planned.rows)
            writer = opened.enter_context(self._writer(planned))
            self.run.begin()
            for report in job.follow(creation.shards(done_before=not self._goes_on)):
                watch.processed(report)
                if self._is_table:
                    writer.add(report.shard, report.stages)
            self.reports = job.reports
            self._summary = ImagesSummary(
                folder=self.run.folder,
                created=creation.summary(),
                processed=job.summary(),
                tables=writer.finish(),
                seconds=round(time.monotonic() - started, 3),
            )
        if not self._summary.failed_shards:
            self.run.finish(asdict(self._summary))

    def summary(self) -> ImagesSummary:
        """Once it has been executed."""
        assert self._summary is not None
        return self._summary

    def _request(self) -> dict[str, str]:
        """All that decides what the run makes: a run of the same request is the same run."""
        made = {f"stage {name}": json.dumps(made_by) for name, made_by in fingerprints(self.stages).items()}
        tables = {"tables": json.dumps([self._options.rows_per_file, self._options.without_pictures])}
        source = {"source": self._source.source, "slice": json.dumps(self._source.sharding.shards)}
        return {**shaping_options(self._source), **source, **made, **(tables if self._is_table else {})}

    def _session(self) -> AbstractContextManager[None]:
        """A Ray that is started for the run has CPUs for both."""
        if self._run_on.engine != "ray":
            return nullcontext()
        from tarloom.engines.ray import OBJECT_STORE_BYTES
        from tarloom.engines.ray_session import ray_session

        workers = parse_workers(self._run_on.num_workers).most
        downloads = self._options.download_workers * CPUS_OF_DOWNLOADS
        cpus = math.ceil(downloads) + math.ceil(workers * self._run_on.cpus_per_worker)
        return ray_session(cpus=cpus, store_bytes=OBJECT_STORE_BYTES, address=self._run_on.ray_address)

    def _process_job(self, engine: Engine) -> ProcessJob:
        """Over the shards that are there, and then those that creation tells of."""
        retry = self._source.resume.retry_failed
        config = ProcessConfig(path=self._dataset, retry_failed=retry or "none")
        job = ProcessJob(self.stages, config, engine)
        # many shards at once are looked at faster than one by one; but retried downloads make some of them anew
        self._goes_on = retry is None and has_shards(self._dataset)
        if self._goes_on:
            job.prepare()
        return job

    def _planned(self, creation: Creation) -> Planned:
        """Raises what keeps shards from being made; a run that could not even be planned leaves nothing behind."""
        try:
            return creation.planned()
        except PlanMismatch as error:
            raise PlanMismatch(f"{error}; or leave that run as it is, and begin another by --new-run") from error
        except UsageError:
            if self.run.is_new:
                self.run.forget()
            raise

    def _creation(self) -> CreateConfig:
        sharding = dataclasses.replace(self._source.sharding, output_format="webdataset")
        return dataclasses.replace(self._source, output=self._dataset, sharding=sharding)

    def _creating(self) -> EngineConfig:
        """Where creation runs: on this machine, or on the same cluster."""
        local = EngineConfig(num_workers=self._options.download_workers)
        if self._run_on.engine != "ray":
            return local
        from tarloom.engines.ray_session import session_address

        address = self._run_on.ray_address or session_address()
        return dataclasses.replace(local, engine="ray", cpus_per_worker=CPUS_OF_DOWNLOADS, ray_address=address)

    def _writer(self, planned: Planned) -> TableWriter:
        pictures = None if self._options.without_pictures else self._source.images.encode_format
        tables = Tables(
            shards=open_storage(self._dataset),
            storage=open_storage(self.run.folder),
            stages=tuple(self.stages),
            member=pictures,
        )
        rows = self._source.sharding.number_sample_per_shard
        files = Files(planned.shards, rows_per_shard=rows, rows_per_file=self._options.rows_per_file)
        if self._is_table:
            self._check_all_wanted(planned)
            tables.begin(files)
        return TableWriter(tables, files)

    def _check_all_wanted(self, planned: Planned) -> None:
        """Raises UsageError where tables hold rows that are not asked for any more: nobody asked to remove them."""
        others = sorted(whole_shards(self._dataset).difference(planned.shards))
        if others:
            raise UsageError(
                f"{self.run.folder}: has rows of {len(others)} shards that are not asked for any more, such as "
                f"{others[0]}; ask for all of them (--max-images, --shards), or begin another run by --new-run"
            )


def has_shards(folder: str) -> bool:
    """Whether there are shards that are whole."""
    return bool(whole_shards(folder))


def whole_shards(folder: str) -> set[str]:
    """The shards that are there and whole."""
    names = {entry.name for entry in open_storage(folder).list()}
    tars = (name for name in names if is_shard_file(name) and stats_name(shard_of(name)) in names)
    return {shard_of(name) for name in tars}
