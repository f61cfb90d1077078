"""Which engine a run uses, as the user says it."""

from dataclasses import dataclass
from typing import Literal

from tarloom.engines.base import Engine
from tarloom.engines.local import LocalEngine
from tarloom.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Where the work runs, and how much of it may fail. Nothing here shapes the output."""

    engine: Literal["local", "ray", "spark"] = "local"
    """local: processes of this machine. ray: actors of a Ray cluster, or of one started for the run. spark: tasks on
    the cluster that spark-submit names, or on a Spark started for the run."""
    num_workers: int = 1
    """Workers side by side, each with one shard at a time; with the local engine one worker needs no extra process."""
    cpus_per_worker: float = 1
    """Ray: CPUs reserved for each worker."""
    gpus_per_worker: float = 0
    """Ray: GPUs reserved for each worker; fractions share one."""
    ray_address: str | None = None
    """Ray: address of a running cluster, as RAY_ADDRESS; without either, one is started on this machine."""
    max_failed: int = 0
    """Shards (of resize_images.py: pictures) that may fail before the exit code is 3."""


def open_engine(config: EngineConfig) -> Engine:
    """The engine that was asked for; close it after use. Raises UsageError for options that cannot work."""
    _check_used(config)
    if config.engine == "local":
        return LocalEngine(config.num_workers)
    if config.engine == "spark":
        from tarloom.engines.spark import SparkEngine

        return SparkEngine(config.num_workers)
    from tarloom.engines.ray import RayEngine

    return RayEngine(
        config.num_workers,
        cpus_per_worker=config.cpus_per_worker,
        gpus_per_worker=config.gpus_per_worker,
        address=config.ray_address,
    )


def _check_used(config: EngineConfig) -> None:
    """Raises UsageError for an option that the engine would not heed."""
    if config.engine == "ray":
        return
    for name in ("cpus_per_worker", "gpus_per_worker", "ray_address"):
        if getattr(config, name) != getattr(EngineConfig(), name):
            hint = "; give spark-submit the resources of a task" if config.engine == "spark" else ""
            raise UsageError(f"{name} is for Ray: add --engine ray, or leave it out{hint}")
