"""`tarloom images`, and process/process_images.py: from a URL list to pictures that stages have seen, in one run."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from tarloom.cli.console import Finished, ended
from tarloom.cli.process import StagesCommand, told_cost
from tarloom.cli.progress import watching
from tarloom.cli.streams import tell
from tarloom.cli.words import options_in, value_of, without
from tarloom.engines.base import Report
from tarloom.engines.choose import EngineConfig
from tarloom.process.cost import PriceConfig
from tarloom.process.images.config import RunOptions, SourceConfig
from tarloom.process.images.runs import named_run

if TYPE_CHECKING:
    from tarloom.process.images.job import ImagesJob, ImagesSummary


@dataclass(frozen=True, kw_only=True)
class Images(StagesCommand):
    """Download the pictures of a URL list, and caption each shard while the next ones come; or run other stages."""

    source: SourceConfig
    run_options: RunOptions = field(default_factory=RunOptions)
    run_on: EngineConfig = field(default_factory=EngineConfig)
    cost: PriceConfig = field(default_factory=PriceConfig)
    stages: str = "caption"
    """Stages and the order in which they see each picture, as `tarloom process` has them; each has its options:
    --caption.model, --caption.prompt; for others --stages caption,hash --help."""
    json: bool = False
    """End stdout with one line of JSON."""

    def execute(self) -> Finished:
        from tarloom.process.images.job import ImagesJob, Watch

        job = ImagesJob(self.source, self.chosen, self.run_on, self.run_options, words=sys.argv[1:])
        job.prepare()
        tell(f"the run's folder: {job.run.folder}")
        with watching("downloading", "processing") as advance:

            def created(report: Report) -> None:
                advance("downloading", report.rows)
                advance("processing", more=len(job.stages) * report.successes)

            watch = Watch(
                planned=lambda rows: advance("downloading", more=rows),
                created=created,
                processed=lambda report: advance("processing", report.rows),
            )
            job.execute(watch)
        summary = job.summary()
        facts = _facts(summary) | self._cost(job)
        return ended(f"Made {summary.folder}", facts, failed=summary.failed_shards, most=self.run_on.max_failed)

    def _cost(self, job: "ImagesJob") -> dict[str, object]:
        """Rates of the stages, and what all cost, waiting included."""
        told = told_cost(job.reports, self.run_on, self.cost, paid_seconds=job.summary().seconds)
        return {name: value for name, value in told.items() if name not in ("images", "seconds")}


def _facts(summary: "ImagesSummary") -> dict[str, object]:
    """What is told of a run: first of the downloads, as of any creation, then of each stage."""
    created = asdict(summary.created)
    stages = {name: {k: v for k, v in asdict(s).items() if v} for name, s in summary.processed.stages.items()}
    run = {"failed_shards": dict(summary.failed_shards), "tables": summary.tables, "seconds": summary.seconds}
    return {"folder": summary.folder, **created, "stages": stages, **run}


def of_resumed_run(words: Sequence[str]) -> list[str]:
    """`--resume FOLDER` stands for the words with which that run was asked for, but for options that are given anew."""
    folder = value_of("--resume", words)
    return [*without(options_in(words), named_run(folder).entry()["words"]), *words] if folder else list(words)
