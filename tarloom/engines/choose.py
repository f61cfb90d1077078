"""Which engine a run uses, as the user says it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from tarloom.engines.base import STAGES_ALONE, Engine
from tarloom.engines.local import LocalEngine
from tarloom.engines.workers import GPUS, parse_workers, visible_gpus
from tarloom.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Where the work runs, and how much of it may fail. Nothing here shapes the output."""

    engine: Literal["local", "ray", "ray-data", "spark"] = "local"
    """local: processes of this machine. ray: actors of a Ray cluster, or of one started for the run. ray-data: on the
    same, tasks that read and decode on any node feed a pool of actors that hold the models; for processing. spark:
    tasks on the cluster that spark-submit names, or on a Spark started for the run."""
    num_workers: int | str = 1
    """Workers side by side, each with one shard at a time; with the local engine one worker needs no extra process.
    Ray: also MIN,MAX, such as 1,8, for a pool that grows. local: also "gpus", one for each GPU of this machine."""
    cpus_per_worker: float = 1
    """Ray: CPUs reserved for each worker; fractions share one."""
    gpus_per_worker: float = 0
    """Ray: GPUs reserved for each worker; fractions share one."""
    ray_address: str | None = None
    """Ray: address of a running cluster, as RAY_ADDRESS; without either, one is started on this machine."""
    max_failed: int = 0
    """Failed shards (for resize_images: pictures) up to which the exit code is still 0."""


def open_engine(config: EngineConfig, *, for_stages: bool = True) -> Engine:
    """The engine that was asked for; close it after use. Raises UsageError for options that cannot work.

    for_stages: it is to run stages over shards, as every engine does; some do nothing else.
    """
    check_used(config)
    if config.engine == "ray-data" and not for_stages:
        raise UsageError(STAGES_ALONE)
    workers = parse_workers(config.num_workers)
    if config.engine == "local":
        return LocalEngine(workers.most)
    if config.engine == "spark":
        from tarloom.engines.spark import SparkEngine

        return SparkEngine(workers.most)
    options: dict[str, Any] = {
        "cpus_per_worker": config.cpus_per_worker,
        "gpus_per_worker": config.gpus_per_worker,
        "address": config.ray_address,
    }
    if config.engine == "ray-data":
        from tarloom.engines.ray_data import RayDataEngine

        return RayDataEngine(workers, **options)
    from tarloom.engines.ray import RayEngine

    return RayEngine(workers.most, **options)


def gpus_of(config: EngineConfig) -> float:
    """How many GPUs the workers hold together, as far as is known here: Spark's are not."""
    workers = parse_workers(config.num_workers).most
    if config.engine.startswith("ray"):
        return workers * config.gpus_per_worker
    return len(visible_gpus()) if config.engine == "local" else 0


def check_used(config: EngineConfig) -> None:
    """Raises UsageError for an option that the engine would not heed, or that no engine can."""
    for name in ("cpus_per_worker", "gpus_per_worker", "max_failed"):
        if not 0 <= getattr(config, name) < math.inf:
            raise UsageError(f"{name} must be at least 0, not {getattr(config, name)}")
    if config.gpus_per_worker > 1 and config.gpus_per_worker % 1:
        raise UsageError(f"gpus_per_worker {config.gpus_per_worker}: more than one GPU can only be whole ones")
    if config.engine.startswith("ray"):
        if config.num_workers == GPUS:
            raise UsageError(f"num_workers {GPUS} is for the local engine: give a number, and --gpus-per-worker 1")
        return
    if "," in str(config.num_workers):
        raise UsageError(f"num_workers {config.num_workers}: with the engine {config.engine} a single number")
    hint = "; give spark-submit the resources of a task" if config.engine == "spark" else ""
    check_left_out(
        config,
        ("cpus_per_worker", "gpus_per_worker", "ray_address"),
        f"is for Ray: add --engine ray, or leave it out{hint}",
    )


def check_left_out(config: EngineConfig, names: Iterable[str], why: str) -> None:
    """Raises UsageError for an option among these that is not what it is by default: its name, and why not."""
    for name in names:
        if getattr(config, name) != getattr(EngineConfig(), name):
            raise UsageError(f"{name} {why}")
