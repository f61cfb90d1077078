"""`tarloom batch` and process/batch_service.py: embeddings of a whole input as one job."""

import os
from contextlib import closing
from dataclasses import asdict, dataclass, field

from tarloom.cli.console import Finished, ended
from tarloom.cli.process import told_cost
from tarloom.cli.progress import finish
from tarloom.create.config import WebOptions
from tarloom.engines.choose import EngineConfig, open_engine
from tarloom.process.cost import PriceConfig
from tarloom.process.embed.stage import EmbedStage
from tarloom.process.service.loader import InputOptions
from tarloom.process.service.writer import Env


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """What is embedded, and where the results go."""

    model_directory: str
    """A CLIP or SigLIP model: a folder, or a name on the Hugging Face hub."""
    input_dir: str
    """Shards, or a list with URLs (img2dataset's parquet, csv, ...), or a folder of pictures; local or s3://, gs://,
    az://. Sidecars are written beside shards."""
    output_dir: str
    """The folder for embeddings.parquet, metadata.json and logs, local or s3://, gs://, az://; of a list, for its
    shards too."""
    batch_size: int = EmbedStage.batch_size
    """Rows under way at a time: what a killed job may have to repeat."""
    max_samples: int | None = None
    """Only the first so many samples; of a list, rows."""
    name: str = "clip"
    """Name of the sidecars to write (SHARD.NAME.parquet)."""
    env: Env = "prod"
    """What the log file holds. prod: lines of JSON; dev: text, with all that may help to find an error."""
    aws_region: str | None = None
    """AWS region of the buckets; the same as setting AWS_REGION. Nodes of a cluster that runs already do not learn it:
    set AWS_REGION there."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Embed all pictures of an input into one parquet file: shards or a list of URLs, local or in an object store."""

    batch: BatchConfig
    input: InputOptions = field(default_factory=InputOptions)
    web: WebOptions = field(default_factory=WebOptions)
    run_on: EngineConfig = field(default_factory=EngineConfig)
    cost: PriceConfig = field(default_factory=PriceConfig)
    config: str | None = None
    """A .yaml, .json or .toml file with any of these options; what is given on the command line holds instead."""
    json: bool = False
    """End stdout with one line of JSON."""

    def execute(self) -> Finished:
        from tarloom.process.service import BatchInferenceOrchestrator, UnifiedDataLoader, UnifiedOutputWriter

        batch = self.batch
        if batch.aws_region is not None:
            os.environ.update(AWS_REGION=batch.aws_region, AWS_DEFAULT_REGION=batch.aws_region)
        loader = UnifiedDataLoader(batch.input_dir, options=self.input, web=self.web)
        writer = UnifiedOutputWriter(batch.output_dir)
        with writer.log_file(batch.env) as log, closing(open_engine(self.run_on)) as engine:
            job = BatchInferenceOrchestrator(
                batch.model_directory, engine=engine, batch_size=batch.batch_size, name=batch.name
            )
            with closing(job.phases(loader, writer, max_samples=batch.max_samples)) as phases:
                for phase in phases:
                    finish(phase.steps, title=phase.title, total=phase.total)
        summary = job.summary()
        facts = {**told_cost(job.reports, self.run_on, self.cost), **asdict(summary), "log": log}
        title = f"Embedded {batch.input_dir}"
        return ended(title, facts, failed=summary.failed_shards, most=self.run_on.max_failed)
