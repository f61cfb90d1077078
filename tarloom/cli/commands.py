"""The commands: for each its options, and how its job is run, watched and summed up.

Frameworks are imported when a command is executed, never to show its help.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Protocol

from tarloom.cli.batch import Batch
from tarloom.cli.console import LOST, Finished, ended
from tarloom.cli.curate import Curate
from tarloom.cli.duplicates import Duplicates
from tarloom.cli.generate import Generate
from tarloom.cli.images import Images
from tarloom.cli.process import Process, run_stages
from tarloom.cli.progress import finish, watch
from tarloom.cli.query import Query
from tarloom.cli.search import Search
from tarloom.cli.words import counted
from tarloom.create.config import CreateConfig
from tarloom.create.lean import become_lean
from tarloom.engines.choose import EngineConfig, open_engine
from tarloom.engines.local import LocalEngine
from tarloom.process.caption.stage import CaptionStage
from tarloom.process.config import ProcessConfig
from tarloom.process.cost import CostConfig
from tarloom.process.embed.stage import EmbedStage
from tarloom.process.keep.agreement import AgreementConfig
from tarloom.process.resize.job import ResizeJob
from tarloom.process.resize.plan import ResizeConfig
from tarloom.read.readers import ReaderName, ScanJob
from tarloom.read.scan import ScanConfig
from tarloom.report.config import ReportConfig


class Command(Protocol):
    """What the `tarloom` command can be asked to do. A dataclass: its fields are the options."""

    @property
    def json(self) -> bool:
        """End stdout with one line of JSON."""
        ...

    def execute(self) -> Finished:
        """Run to the end, showing progress on stderr. Raises TarloomError."""
        ...


@dataclass(frozen=True, kw_only=True)
class Create:
    """Download or read pictures, resize them, and pack them into tar shards with their metadata."""

    create: CreateConfig
    run_on: EngineConfig = field(default_factory=EngineConfig)
    plan_only: bool = False
    """Plan, print how many shards there will be, and stop."""
    json: bool = False
    """End stdout with one line of JSON."""

    def execute(self) -> Finished:
        if self.run_on.engine == "local" and self.create.downloader == "tarloom":
            become_lean()
        from tarloom.create.job import CreateJob

        with closing(open_engine(self.run_on, for_stages=False)) as engine:
            job = CreateJob(self.create, engine)
            job.prepare()
            if self.plan_only:
                facts = {"rows": job.total, "shards": len(job.shards)}
                return Finished(title="Planned; nothing was created", facts=facts)
            finish(job, title="creating", total=job.total)
        summary = job.summary()
        title, mode = f"Created {self.create.output}", self.create.resume.incremental_mode
        return ended(title, asdict(summary), failed=summary.failed_shards, most=self.run_on.max_failed, mode=mode)


@dataclass(frozen=True, kw_only=True)
class Read:
    """Stream all samples through one of the readers; print counts, rates, some samples, and a digest on request."""

    scan: ScanConfig
    reader: ReaderName = "plain"
    """What reads the shards; all yield the same samples."""
    json: bool = False
    """End stdout with one line of JSON."""

    def execute(self) -> Finished:
        job = ScanJob(self.reader, self.scan)
        job.prepare()
        finish(job, title=f"reading with {self.reader}", total=job.total)
        summary = job.summary()
        failed = bool(summary.errors)
        return Finished(
            title=f"Read {self.scan.path}{', but not all of it' if failed else ''}",
            facts=asdict(summary),
            exit_code=LOST if failed and self.scan.max_skipped is None else 0,
        )


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Caption every picture with a vision-language model in vLLM; write one sidecar beside each shard."""

    process: ProcessConfig
    stage: CaptionStage
    run_on: EngineConfig = field(default_factory=EngineConfig)
    cost: CostConfig = field(default_factory=CostConfig)
    agreement: AgreementConfig = field(default_factory=AgreementConfig)
    json: bool = False
    """End stdout with one line of JSON."""

    def execute(self) -> Finished:
        return run_stages(
            self.stage, self.process, self.run_on, self.cost, title="captioning", agreement=self.agreement
        )


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Embed every picture with CLIP or SigLIP; write one sidecar of unit vectors beside each shard."""

    process: ProcessConfig
    stage: EmbedStage
    run_on: EngineConfig = field(default_factory=EngineConfig)
    cost: CostConfig = field(default_factory=CostConfig)
    json: bool = False
    """End stdout with one line of JSON."""

    def execute(self) -> Finished:
        return run_stages(self.stage, self.process, self.run_on, self.cost, title="embedding")


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Resize, convert or compress one picture, or all pictures of a folder; in place or into another."""

    resize: ResizeConfig
    run_on: EngineConfig = field(default_factory=EngineConfig)
    json: bool = False
    """End stdout with one line of JSON."""

    def execute(self) -> Finished:
        if self.resize.check:
            from tarloom.engines.ray_check import check_ray

            return Finished(title="Ray works", facts=check_ray(self.run_on.ray_address))
        job = ResizeJob(self.resize)
        job.prepare()  # what cannot work is said before an engine starts
        opened = open_engine(self.run_on, for_stages=False) if self.resize.batch else LocalEngine(1)
        with closing(opened) as engine:
            finish(job.run(engine), title="resizing", total=job.total, done=lambda report: report.pictures)
        summary = job.summary()
        lost = f", {summary.failed} failed" if summary.failed else ""
        return Finished(
            title=f"Resized {summary.processed} pictures{lost}",
            facts=asdict(summary),
            exit_code=LOST if summary.failed > self.run_on.max_failed else 0,
        )


@dataclass(frozen=True, kw_only=True)
class Info:
    """Say what a dataset holds: shards, samples, members and columns. No picture is read."""

    path: str
    """The dataset's folder, local or remote."""
    json: bool = False
    """End stdout with one line of JSON."""

    def execute(self) -> Finished:
        import tarloom

        dataset = tarloom.open(self.path)
        facts = {
            "shards": len(dataset.shards),
            "samples": len(dataset),
            "tar_bytes": sum(shard.size for shard in dataset.shards),
            "columns": list(dataset.columns),
        }
        return Finished(title=f"{self.path}", facts=facts)


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Prove that every shard's tar, metadata, index, stats and sidecars agree; say what is wrong and where."""

    path: str
    """The dataset's folder, or one of its tars, local or remote."""
    json: bool = False
    """End stdout with one line of JSON."""

    def execute(self) -> Finished:
        from tarloom.format.verify.dataset import verify

        reports = list(watch(verify(self.path), title="verifying", total=None))
        found = [finding for report in reports for finding in report.findings]
        findings = [f"{f.file}: {f.problem}" for f in found if f.kind == "damage"]
        facts: Mapping[str, object] = {
            "shards": sum(1 for report in reports if report.shard),
            "samples": sum(report.rows for report in reports),
            "bytes": sum(report.bytes for report in reports),
            "findings": findings,
            "warnings": [f"{f.file}: {f.problem}" for f in found if f.kind == "warning"],
        }
        title = f"{counted(len(findings), 'finding')} in {self.path}" if findings else f"{self.path} is sound"
        return Finished(title=title, facts=facts, exit_code=LOST if findings else 0)


@dataclass(frozen=True, kw_only=True)
class Repair:
    """Make a sound copy of a dataset or of one tar: what can be saved, side by side; say what was done and lost."""

    path: str
    """The dataset's folder, or one of its tars, compressed or not, local or remote. It is not touched."""
    output: str
    """The folder of the copy: an empty one, or that of the same repair, which then goes on."""
    keep_unproven: bool = False
    """Keep what comes out of a damaged compressed tar, too, though any byte of it may be wrong."""
    json: bool = False
    """End stdout with one line of JSON."""

    def execute(self) -> Finished:
        from tarloom.format.repair.job import RepairJob

        job = RepairJob(self.path, self.output, keep_unproven=self.keep_unproven)
        reports = list(watch(job, title="repairing", total=None, done=lambda report: report.samples))
        lost = [f"{report.shard}: {line}" for report in reports for line in report.lost]
        facts: Mapping[str, object] = {
            "shards": sum(1 for report in reports if report.bytes),
            "skipped": sum(1 for report in reports if report.skipped),
            "samples": sum(report.samples for report in reports),
            "bytes": sum(report.bytes for report in reports),
            "done": [f"{report.shard}: {line}" for report in reports for line in report.done],
            "lost": lost,
        }
        title = f"Copied {self.path} to {self.output}{', but not all of it' if lost else ''}"
        return Finished(title=title, facts=facts, exit_code=LOST if lost else 0)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Draw a dataset as one self-contained report.html and a contact_sheet.png."""

    report: ReportConfig
    json: bool = False
    """End stdout with one line of JSON."""

    def execute(self) -> Finished:
        from tarloom.report.build import build_report

        return Finished(title=f"Report of {self.report.path}", facts=asdict(build_report(self.report)))


COMMANDS: dict[str, type[Command]] = {
    "create": Create,
    "generate": Generate,
    "read": Read,
    "caption": Caption,
    "embed": Embed,
    "process": Process,
    "duplicates": Duplicates,
    "images": Images,
    "batch": Batch,
    "search": Search,
    "resize": Resize,
    "info": Info,
    "query": Query,
    "curate": Curate,
    "verify": Verify,
    "repair": Repair,
    "report": Report,
}
