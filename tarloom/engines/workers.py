"""How many workers a run has, as the user says it: a number, a range, or one for each GPU."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tarloom.errors import UsageError

GPUS = "gpus"
_DEVICES = Path("/dev")


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Side by side: a pool begins with the least and grows to the most."""

    least: int
    most: int


def parse_workers(said: int | str) -> Workers:
    """A number, or "MIN,MAX", or "gpus". Raises UsageError for anything else, and for numbers below 1."""
    if said == GPUS:
        count = max(1, len(visible_gpus()))
        return Workers(least=count, most=count)
    numbers = [int(word) for word in str(said).split(",") if re.fullmatch(r"\s*-?\d+\s*", word)]
    if len(numbers) != len(str(said).split(",")) or len(numbers) > 2:
        raise UsageError(f"num_workers {said!r}: give a number, MIN,MAX (such as 1,8), or {GPUS}")
    least, most = numbers[0], numbers[-1]
    check_workers(least)
    if most < least:
        raise UsageError(f"num_workers {said!r}: at most {most} workers cannot be at least {least}")
    return Workers(least=least, most=most)


def check_workers(number: int) -> None:
    """Raise UsageError below 1."""
    if number < 1:
        raise UsageError(f"the number of workers must be at least 1, not {number}")


def visible_gpus() -> list[str]:
    """NVIDIA's GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes. No framework is asked."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    numbered = [str(number) for number, _ in enumerate(_DEVICES.glob("nvidia[0-9]*"))]
    return numbered or ["0"] * (_DEVICES / "dxg").exists()  # Windows lends Linux its GPU by this name


def share_of(gpus: list[str], *, worker: int, workers: int) -> list[str]:
    """A worker's GPUs: neighbours, as many as for each other worker; where there are too few, several share one."""
    if len(gpus) <= workers:
        return gpus[worker % len(gpus) :][:1] if gpus else []
    each = len(gpus) // workers
    return gpus[worker * each : (worker + 1) * each]
