"""What `tarloom curate` does with --keep-if: some samples of a dataset become shards of their own."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

from tarloom.cli.console import Finished, ended
from tarloom.cli.progress import finish
from tarloom.engines.choose import EngineConfig, open_engine
from tarloom.process.keep.config import KeepConfig

if TYPE_CHECKING:
    import numpy as np


def keep_samples(
    config: KeepConfig, run_on: EngineConfig, samples: "Mapping[str, np.ndarray] | None" = None
) -> Finished:
    """Copy them, showing progress. samples: take these alone, by shard, their numbers. Raises TarloomError."""
    from tarloom.process.keep.job import KeepJob

    with closing(open_engine(run_on, for_stages=False)) as engine:
        job = KeepJob(config, engine, samples)
        job.prepare()
        finish(job, title="keeping", total=job.total)
    summary = job.summary()
    title = f"Kept {summary.kept} of {summary.samples} samples in {config.output}"
    return ended(title, asdict(summary), failed=summary.failed_shards, most=run_on.max_failed)
