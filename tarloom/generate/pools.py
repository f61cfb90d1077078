"""Where stages live: apart from each other, so that one works while the one before it still does."""

from collections.abc import Mapping, Sequence

from tarloom.engines.base import Pool
from tarloom.engines.workers import parse_workers
from tarloom.errors import UsageError
from tarloom.generate.config import PoolOptions


def pools_of(stages: Sequence[str], options: PoolOptions) -> dict[str, Pool]:
    """The pool of every stage but the last, by name. Raises UsageError for what is said of others, or no number."""
    apart = stages[:-1]
    workers, cpus, gpus = (
        _by_stage(option, getattr(options, option), apart) for option in ("stage_workers", "stage_cpus", "stage_gpus")
    )
    return {
        name: Pool(
            workers=parse_workers(workers.get(name, "1")),
            cpus=_number("stage_cpus", cpus.get(name, "1")),
            gpus=_number("stage_gpus", gpus.get(name, "0")),
        )
        for name in apart
    }


def _by_stage(option: str, given: Sequence[str], stages: Sequence[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in stages:
            known = ", ".join(stages) or "none here: there is one stage, with --num-workers and --gpus-per-worker"
            raise UsageError(f"{option} {text!r}: write NAME=NUMBER; of the stages before the last: {known}")
        found[name] = value
    return found


def _number(option: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise UsageError(f"{option}: {text!r} is no number of 0 or more")
    return number
