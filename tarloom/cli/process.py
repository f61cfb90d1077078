"""`tarloom process`: several stages over one decode. --stages names them; each brings its options, as --NAME.option."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, make_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from tarloom.cli.config_file import in_file
from tarloom.cli.console import Finished, ended, show
from tarloom.cli.progress import finish, watch
from tarloom.cli.words import PREFIXED, value_of
from tarloom.engines.choose import EngineConfig, gpus_of, open_engine
from tarloom.engines.workers import parse_workers
from tarloom.errors import TarloomError
from tarloom.process.config import ProcessConfig
from tarloom.process.cost import Cost, CostConfig, PriceConfig, cost_of, predict
from tarloom.process.keep.agreement import AgreementConfig
from tarloom.process.registry import named_stages
from tarloom.process.stage import Stage
from tarloom.process.task import ShardReport

if TYPE_CHECKING:
    from tarloom.process.job import ProcessJob

_OPTION = "--stages"


@dataclass(frozen=True, kw_only=True)
class StagesCommand:
    """What commands have in common whose stages are chosen on the command line."""

    stages: str
    """Stages and the order in which they see each picture: caption, clip, clip_text, rewrite, hash, quality,
    clip_score, aesthetic, or one's own as module:Class. NAME=STAGE names its sidecars. Each has its options: --stages
    caption,hash --help."""

    @property
    def chosen(self) -> dict[str, Stage]:
        """The stages by the names of their sidecars, with the options that were given."""
        return {name: getattr(self, _field(number)) for number, name in enumerate(named_stages(self.stages))}


AnyCommand = TypeVar("AnyCommand")


def with_stages(command: type[AnyCommand], words: Sequence[str], defaults: Mapping[str, Any]) -> type[AnyCommand]:
    """The command, and the options of the stages that these words (or the defaults) name; of none if they name none."""
    if not issubclass(command, StagesCommand):
        return command
    in_config = in_file("stages", words) if hasattr(command, "config") else None
    text = value_of(_OPTION, words) or in_config or defaults.get("stages") or getattr(command, "stages", None)
    if not text:
        return command
    if ":" in text:
        _look_here_too()
    options = [
        (_field(number), kind, field(metadata={PREFIXED: name}))
        for number, (name, kind) in enumerate(named_stages(text).items())
    ]
    made = make_dataclass(command.__name__, options, bases=(command,), frozen=True, kw_only=True)
    made.__doc__ = command.__doc__
    return made


def _look_here_too() -> None:
    """module:Class lies where the user is, as it does for `python -m`; but not in the place of what is installed: a
    folder that was downloaded may hold a torch.py."""
    with suppress(FileNotFoundError):  # a folder that is gone holds none
        if (here := os.getcwd()) not in sys.path:
            sys.path.append(here)


@dataclass(frozen=True, kw_only=True)
class Process(StagesCommand):
    """Run stages over a dataset, decoding each picture once for all; write each stage's sidecar beside each shard."""

    process: ProcessConfig
    run_on: EngineConfig = field(default_factory=EngineConfig)
    cost: CostConfig = field(default_factory=CostConfig)
    agreement: AgreementConfig = field(default_factory=AgreementConfig)
    json: bool = False
    """End stdout with one line of JSON."""

    def execute(self) -> Finished:
        return run_stages(
            self.chosen, self.process, self.run_on, self.cost, title="processing", agreement=self.agreement
        )


def run_stages(
    stages: Stage | Mapping[str, Stage],
    config: ProcessConfig,
    run_on: EngineConfig,
    cost: CostConfig,
    *,
    title: str,
    agreement: AgreementConfig | None = None,
) -> Finished:
    """Run stages over a dataset, or over a sample of it, showing progress. Raises TarloomError."""
    from tarloom.process.job import ProcessJob

    agreement = agreement or AgreementConfig()
    agreement.check()
    with closing(open_engine(run_on)) as engine:
        job = ProcessJob(stages, config, engine)
        job.prepare()
        if cost.estimate is not None:
            return _estimate(job, run_on, cost, cost.estimate)
        finish(job, title=title, total=job.total)
    summary, heading = job.summary(), f"{title.capitalize()} of {config.path}"
    done = ended(
        heading,
        asdict(summary) | told_cost(job.reports, run_on, cost),
        failed=summary.failed_shards,
        most=run_on.max_failed,
    )
    return done if summary.failed_shards else _with_agreement(done, agreement, config.path)


def _with_agreement(done: Finished, agreement: AgreementConfig, path: str) -> Finished:
    """Where a shard failed it could not be told: its sidecars are not there."""
    try:
        return replace(done, facts={**done.facts, **agreement.told(path)})
    except TarloomError:
        show(done, as_json=False)  # what was done is told all the same
        raise


def _estimate(job: "ProcessJob", run_on: EngineConfig, cost: CostConfig, images: int) -> Finished:
    """Of the rest, from a sample."""
    reports = list(watch(job.trial(images), title="trying", total=None))
    estimate = predict(_cost(reports, run_on, cost), reports, remaining=job.remaining)
    failed = job.summary().failed_shards
    title, facts = f"Estimate for {job.config.path}; nothing was kept", asdict(estimate) | {"failed_shards": failed}
    return ended(title, facts, failed=failed, most=run_on.max_failed)


def told_cost(
    reports: Iterable[ShardReport], run_on: EngineConfig, config: PriceConfig, *, paid_seconds: float | None = None
) -> dict[str, object]:
    """What the run took, in a line each. paid_seconds: see cost_of."""
    cost = _cost(reports, run_on, config, paid_seconds)
    rates = {f"{name}_images_per_second": stage.images_per_second for name, stage in cost.stages.items()}
    return {name: value for name, value in {**rates, **asdict(cost)}.items() if value is not None and name != "stages"}


def _cost(
    reports: Iterable[ShardReport], run_on: EngineConfig, config: PriceConfig, paid_seconds: float | None = None
) -> Cost:
    return cost_of(
        reports,
        workers=parse_workers(run_on.num_workers).most,
        gpus=gpus_of(run_on),
        price_per_hour=config.price_per_hour,
        paid_seconds=paid_seconds,
    )


def _field(number: int) -> str:
    return f"stage_{number}"
