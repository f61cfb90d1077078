"""What a generation run is asked to do, declared once: the command line, its help and the plan all come from here."""

from dataclasses import dataclass, field

from tarloom.generate.tables.config import TableConfig


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Make WebDataset shards from a table: every row becomes a prompt, the prompt a picture."""

    table: TableConfig
    output: str
    """The folder for the shards, local or s3://, gs://, az://. A run that was interrupted goes on where it stopped."""
    number_sample_per_shard: int = 1000
    """Rows per shard. A shard's pictures are in memory until it is whole."""
    oom_shard_count: int = 5
    """Digits of a shard's name."""
    retry_failed: bool = False
    """Make finished shards anew that have rows whose failure may pass; their other pictures become what they were."""
    folder: str | None = None
    """Also put all pictures as files, and one parquet, into this folder."""


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """Ray Data only: workers for the stages before the last. The last stage uses --num-workers, --cpus-per-worker
    and --gpus-per-worker; every other stage gets one worker with one CPU unless set here."""

    stage_workers: tuple[str, ...] = field(default=())
    """How many of each, as NAME=NUMBER or NAME=MIN,MAX: such as rewrite=2."""
    stage_cpus: tuple[str, ...] = ()
    """CPUs reserved for each of them, as NAME=NUMBER."""
    stage_gpus: tuple[str, ...] = ()
    """GPUs reserved for each of them, as NAME=NUMBER; fractions share one."""
