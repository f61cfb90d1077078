"""One training: a lesson is learned from a feed, step by step, and goes on where it was saved, however it ended.

What is saved together is what must fit together: the weights, the optimiser's memory, the number of steps, and the
feed's state. A step depends on nothing else, so that steps done again after a kill have the same samples and losses.
"""

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from .logs import Step, digest

Batch = Mapping[str, Any]
WARM_UP = 0.05
"""Share of the steps in which the learning rate rises; then it falls to nothing as a cosine does."""


class Lesson(Protocol):
    """A model that is to be trained."""

    columns: ClassVar[tuple[str, ...]]
    """What it needs of the shards."""
    decode: ClassVar[Mapping[str, Any]]
    """And as what."""
    rate: ClassVar[float]
    """The highest learning rate."""
    module: torch.nn.Module
    """All that learns."""

    def losses(self, batch: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss that is shown, and the one that is made smaller."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model as transformers and vLLM load it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long, and what is kept."""

    folder: Path
    """For the checkpoint, and the log: a line of JSON for each step."""
    steps: int
    save_every: int
    die_at: int | None = None
    """After so many steps the process kills itself, as the machine might."""


class Training:
    """Trains a lesson on a feed, from the beginning or from its checkpoint. Raises UsageError for other data."""

    def __init__(self, lesson: Lesson, feed: Any, plan: Plan) -> None:
        self._lesson, self._feed, self._plan = lesson, feed, plan
        self._optimiser = torch.optim.AdamW(
            lesson.module.parameters(), lr=lesson.rate, betas=(0.9, 0.98), weight_decay=0.01
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, max_lr=lesson.rate, total_steps=plan.steps + 1, pct_start=WARM_UP, cycle_momentum=False
        )
        self._step = 0

    def run(self) -> None:
        """All steps that are not done yet."""
        self._plan.folder.mkdir(parents=True, exist_ok=True)
        if self._checkpoint.exists():
            self._load()
        with open(self._plan.folder / "log.jsonl", "a", buffering=1, encoding="utf-8") as log:
            while self._step < self._plan.steps:
                for batch in self._feed:  # an epoch, or the rest of one
                    log.write(json.dumps(asdict(self._learn(batch))) + "\n")
                    self._save_or_die()
                    if self._step == self._plan.steps:
                        break

    def _learn(self, batch: Batch) -> Step:
        epoch = self._step // len(self._feed)
        shown, loss = self._lesson.losses(batch, self._step)
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._lesson.module.parameters(), 1.0)
        self._optimiser.step()
        self._schedule.step()
        self._step += 1
        samples = digest(batch["__key__"])
        return Step(process=os.getpid(), step=self._step, epoch=epoch, samples=samples, loss=shown.item())

    def _save_or_die(self) -> None:
        if self._step % self._plan.save_every == 0 or self._step == self._plan.steps:
            self._save()
        if self._step == self._plan.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    @property
    def _checkpoint(self) -> Path:
        return self._plan.folder / "checkpoint.pt"

    def _save(self) -> None:
        written = self._checkpoint.with_suffix(".part")
        states = {name: part.state_dict() for name, part in self._parts().items()}
        torch.save({"step": self._step, "feed": self._feed.state_dict(), **states}, written)
        written.replace(self._checkpoint)

    def _load(self) -> None:
        saved = torch.load(self._checkpoint, weights_only=True)
        self._step = saved["step"]
        self._feed.load_state_dict(saved["feed"])
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])

    def _parts(self) -> dict[str, Any]:
        return {"weights": self._lesson.module, "optimiser": self._optimiser, "schedule": self._schedule}
