"""How much is learned: what the models were made with, and a little that shows that the training works."""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of a whole training."""

    scenes: int
    scenes_per_shard: int
    batch_size: int
    """Of lessons whose batches are not larger; see train.COURSES."""
    steps: Mapping[str, int]
    """Of each lesson."""
    save_every: int

    def times(self, number: int) -> "Size":
        """So many times as many steps."""
        return replace(self, steps={lesson: number * steps for lesson, steps in self.steps.items()})

    def dies_at(self, lesson: str) -> int:
        """A step past the middle, between two that are saved, so that some are done again."""
        return self.steps[lesson] * 5 // 8 // self.save_every * self.save_every + self.save_every // 2


FULL = Size(
    scenes=24_000,
    scenes_per_shard=2000,
    batch_size=32,
    steps={"captioner": 2400, "clip": 800, "autoencoder": 3000, "painter": 6000, "rewriter": 1500},
    save_every=100,
)
SHORT = Size(
    scenes=500,
    scenes_per_shard=70,
    batch_size=16,
    steps={"captioner": 60, "clip": 30, "autoencoder": 40, "painter": 24, "rewriter": 30},
    save_every=8,
)
