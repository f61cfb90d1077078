"""What a training wrote down of its steps, by all the processes that it took."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import mean

FEW = 10
"""Steps over which a loss is averaged."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A line of the log."""

    process: int
    step: int
    epoch: int
    samples: str
    """Their digest."""
    loss: float


def digest(keys: Iterable[str]) -> str:
    """Of samples, in their order."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:8]


@dataclass(frozen=True, kw_only=True)
class Log:
    """The steps of each process, one process after the other."""

    processes: tuple[tuple[Step, ...], ...]

    @classmethod
    def read(cls, path: Path) -> "Log":
        """Lines of JSON."""
        steps = [Step(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
        return cls(processes=tuple(tuple(found) for _, found in groupby(steps, key=lambda step: step.process)))

    @property
    def begin(self) -> float:
        """The mean loss of the first few steps."""
        return mean(step.loss for step in self.processes[0][:FEW])

    @property
    def end(self) -> float:
        """The mean loss of the last few steps."""
        return mean(step.loss for step in self.processes[-1][-FEW:])

    def repeated(self) -> tuple[int, int]:
        """How many steps were done by a process and again by the next, and how many of them differ, to the last bit."""
        pairs = []
        for before, after in zip(self.processes, self.processes[1:], strict=False):
            done = {step.step: step for step in before}
            pairs += [(done[step.step], step) for step in after if step.step in done]
        differ = [old.samples != new.samples or old.loss != new.loss for old, new in pairs]
        return len(pairs), sum(differ)
