"""What `tarloom curate` does with --keep-if: some samples of a dataset become shards of their own."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

from tarloom.cli.console import LOST, Finished, all_but
from tarloom.cli.progress import watch
from tarloom.engines.choose import EngineConfig, open_engine
from tarloom.process.keep.config import KeepConfig

if TYPE_CHECKING:
    import numpy as np


def keep_samples(
    config: KeepConfig, run_on: EngineConfig, samples: "Mapping[str, np.ndarray] | None" = None
) -> Finished:
    """Copy them, showing progress. samples: take these alone, by shard, their numbers. Raises TarloomError."""
    from tarloom.process.keep.job import KeepJob

    with closing(open_engine(run_on)) as engine:
        job = KeepJob(config, engine, samples)
        job.prepare()
        for _ in watch(job, title="keeping", total=job.total, done=lambda report: report.rows):
            pass
    summary = job.summary()
    return Finished(
        title=f"Kept {summary.kept} of {summary.samples} samples in {config.output}{all_but(summary.failed_shards)}",
        facts=asdict(summary),
        exit_code=LOST if len(summary.failed_shards) > run_on.max_failed else 0,
    )
