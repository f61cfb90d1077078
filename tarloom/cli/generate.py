"""`tarloom generate`, and create/generate_with_ray.py: pictures for the rows of a table, as shards."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass, field

from tarloom.cli.console import Finished, ended
from tarloom.cli.process import StagesCommand, told_cost
from tarloom.cli.progress import finish
from tarloom.engines.base import Pool
from tarloom.engines.choose import EngineConfig, open_engine
from tarloom.engines.workers import parse_workers
from tarloom.generate.config import GenerateConfig, PoolOptions
from tarloom.generate.pools import pools_of
from tarloom.process.cost import PriceConfig


@dataclass(frozen=True, kw_only=True)
class Generate(StagesCommand):
    """Join tables into prompts, rewrite and paint them, and pack the pictures into tar shards with their metadata."""

    generate: GenerateConfig
    run_on: EngineConfig = field(default_factory=EngineConfig)
    pools: PoolOptions = field(default_factory=PoolOptions)
    cost: PriceConfig = field(default_factory=PriceConfig)
    stages: str = "paint"
    """Stages to run on each row, in order; the last must be paint. rewrite,paint has a language model rewrite the
    prompt first. Each stage has its own options, such as --paint.model; list them with --stages rewrite,paint
    --help."""
    config: str | None = None
    """Take options from this file too: YAML, JSON or TOML, one NAME: VALUE a line. The command line's hold instead."""
    json: bool = False
    """End stdout with one line of JSON."""

    def execute(self) -> Finished:
        from tarloom.generate.job import GenerateJob

        chosen = self.chosen
        pools = pools_of(list(chosen), self.pools)
        with ExitStack() as opened:
            opened.enter_context(_session(self.run_on, pools))
            engine = opened.enter_context(closing(open_engine(self.run_on)))
            job = GenerateJob(self.generate, chosen, engine, pools)
            job.prepare()
            finish(job, title="generating", total=job.total)
        summary = job.summary()
        folder = {} if summary.failed_shards else self._as_folder()
        facts = asdict(summary) | told_cost(job.reports, self.run_on, self.cost) | folder
        title = f"Generated {self.generate.output}"
        return ended(title, facts, failed=summary.failed_shards, most=self.run_on.max_failed)

    def _as_folder(self) -> dict[str, object]:
        """The pictures as files, where that is wanted."""
        if self.generate.folder is None:
            return {}
        from tarloom.generate.folder import write_folder

        written = write_folder(self.generate.output, self.generate.folder)
        return {"folder": written.folder, "pictures_in_folder": written.pictures}


def _session(run_on: EngineConfig, pools: Mapping[str, Pool]) -> AbstractContextManager[None]:
    """A Ray that is started for the run has CPUs for the stages that live apart, too."""
    if not run_on.engine.startswith("ray"):
        return nullcontext()
    from tarloom.engines.ray_data import READING_CPUS, STORE_BYTES
    from tarloom.engines.ray_session import ray_session

    cpus = parse_workers(run_on.num_workers).most * run_on.cpus_per_worker + READING_CPUS
    cpus += sum(pool.workers.most * pool.cpus for pool in pools.values())
    return ray_session(cpus=math.ceil(cpus), store_bytes=STORE_BYTES, address=run_on.ray_address)
