"""`tarloom curate`: tables asked, segmented and joined in SQL; the answer as files, on the screen, or as new shards."""

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from tarloom.cli.console import Finished
from tarloom.cli.keep import keep_samples
from tarloom.cli.progress import finish
from tarloom.cli.query import shown
from tarloom.engines.choose import EngineConfig
from tarloom.errors import UsageError
from tarloom.format.index import KEY
from tarloom.process.curate.config import CurateConfig
from tarloom.process.keep.config import KeepConfig

if TYPE_CHECKING:
    from tarloom.process.curate.job import CurateJob


@dataclass(frozen=True, kw_only=True)
class Curate:
    """Filter, join, segment and aggregate metadata and sidecars; write tables, or the chosen samples as new shards."""

    curate: CurateConfig
    keep_if: str | None = None
    """Instead of a table: a curated copy of the dataset with the samples for which this is true, such as
    "caption.text = txt". Members, metadata and sidecars go with them."""
    to_shards: bool = False
    """Instead of a table, copy the samples of the answer, with their members, metadata and sidecars, to new shards in
    --output. They keep the dataset's order."""
    number_sample_per_shard: int = KeepConfig.number_sample_per_shard
    """Samples per shard of a copy."""
    run_on: EngineConfig = field(default_factory=EngineConfig)
    json: bool = False
    """End stdout with one line of JSON; without --output, an object for each row of the answer and nothing else."""

    def execute(self) -> Finished:
        if self.keep_if is None and not self.to_shards:
            return self._table()
        kept = self._kept()
        if self.keep_if is not None:
            if self.to_shards or self.curate != CurateConfig(path=kept.path, output=kept.output, missing=kept.missing):
                raise UsageError("keep_if stands alone; with --to-shards, say the condition as --where")
            return keep_samples(kept, self.run_on)
        if self.curate.grouped or self.curate.select or self.curate.partition_by:
            raise UsageError("to_shards: for an answer of samples; leave out groups, select and partition_by")
        job = self._asked(replace(self.curate, output=None, select=(KEY,)), places=True)
        return keep_samples(kept, self.run_on, samples=job.samples())

    def _table(self) -> Finished:
        """The answer on the screen, or what was written of it."""
        job = self._asked(self.curate)
        if job.table is not None:
            return Finished(title="", lines=shown(job.table.schema.names, job.table.to_batches(), as_json=self.json))
        return Finished(title=f"Answered in {self.curate.output}", facts=asdict(job.summary()))

    def _asked(self, question: CurateConfig, *, places: bool = False) -> "CurateJob":
        from tarloom.process.curate.job import CurateJob  # loads duckdb

        job = CurateJob(question, self.run_on, places=places)
        job.prepare()
        finish(job, title="curating", total=job.total)
        return job

    def _kept(self) -> KeepConfig:
        """The copy that is to be made."""
        if self.curate.output is None:
            raise UsageError("new shards need a folder: add --output")
        return KeepConfig(
            path=self.curate.path,
            output=self.curate.output,
            keep_if=self.keep_if or "",
            missing=self.curate.missing,
            number_sample_per_shard=self.number_sample_per_shard,
        )
