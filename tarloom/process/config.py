"""What is processed, as the user says it."""

from dataclasses import dataclass

from tarloom.process.task import Retry


@dataclass(frozen=True, kw_only=True)
class ProcessConfig:
    """What is processed, and what becomes of sidecars that are there already."""

    path: str
    """The dataset's folder, local or remote. Sidecars are written beside its shards."""
    name: str | None = None
    """Name of the sidecars, SHARD.NAME.parquet, and of their columns, NAME.column; the stage's own if not given."""
    overwrite: bool = False
    """Replace sidecars of this name that were made with another model or other options."""
    retry_failed: Retry = "none"
    """Ask again about rows that failed in earlier runs: for reasons that may have passed, or all of them."""
