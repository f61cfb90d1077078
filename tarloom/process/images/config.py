"""What a run from URLs to captions is asked to do: creation's options with defaults for many small pictures, and where
the results go."""

import dataclasses
from dataclasses import dataclass, field

from tarloom.create import config as creation
from tarloom.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ImageOptions(creation.ImageOptions):
    """How pictures are checked, resized and encoded."""

    image_size: int = 128
    """Pixels of the side that the resize mode refers to."""


@dataclass(frozen=True, kw_only=True)
class WebOptions(creation.WebOptions):
    """How URLs are fetched."""

    timeout: float = 5
    """Seconds that one try may take, body included."""
    thread_count: int = 1000
    """Downloads in flight per worker."""


@dataclass(frozen=True, kw_only=True)
class ShardOptions(creation.ShardOptions):
    """How the output is cut."""

    number_sample_per_shard: int = 1000
    """Input rows per shard: what is downloaded, then processed, at a time."""
    output_format: creation.OutputFormat = "webdataset"
    """webdataset: tar shards with a sidecar of each stage; parquet: tables with all of it, pictures too."""


@dataclass(frozen=True, kw_only=True)
class SourceConfig(creation.CreateConfig):
    """What is downloaded."""

    output: str
    """The folder for runs, local or s3://, gs://, az://. Each run has a folder of its own in it, called by the time of
    its start, such as 20261121T093000Z. The same command goes on with its newest run that was not finished."""
    images: ImageOptions = field(default_factory=ImageOptions)
    web: WebOptions = field(default_factory=WebOptions)
    sharding: ShardOptions = field(default_factory=ShardOptions)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How much is done, by how many, and into what."""

    max_images: int | None = None
    """Take so many rows of the source, rounded up to whole shards; by default all."""
    download_workers: int = 4
    """Processes (on Ray: actors of half a CPU) that download and resize, each a shard at a time, beside those of the
    stages. While one waits for the last answers of its shard, others have work."""
    rows_per_file: int = 100_000
    """parquet: rows of a file, rounded down to whole shards."""
    without_pictures: bool = False
    """parquet: leave the pictures themselves out of the tables."""
    new_run: bool = False
    """Begin a new run, even if one of the same options was not finished."""
    resume: str | None = None
    """The folder of a run to go on with, finished or not. Its options are known: only those that differ are needed."""


def sized(source: SourceConfig, options: RunOptions) -> SourceConfig:
    """The source with as many shards as `max_images` asks for. Raises UsageError for options that cannot work."""
    for name in ("download_workers", "rows_per_file", "max_images"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, not {value}")
    sharding = source.sharding
    if sharding.output_format not in ("webdataset", "parquet"):
        raise UsageError(f"output_format {sharding.output_format}: stages need pictures; use webdataset or parquet")
    if source.resume.incremental_mode != "incremental":
        raise UsageError(f"incremental_mode {source.resume.incremental_mode}: every run has a folder of its own")
    if options.max_images is None or sharding.number_sample_per_shard < 1:
        return source
    if sharding.shards is not None:
        raise UsageError("max_images and shards both say what is taken; leave one out")
    rows = min(sharding.number_sample_per_shard, options.max_images)
    shards = f":{-(-options.max_images // rows)}"
    return dataclasses.replace(
        source, sharding=dataclasses.replace(sharding, number_sample_per_shard=rows, shards=shards)
    )
