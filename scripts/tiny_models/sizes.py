"""How much is learned: what the models were made with, and a little that shows that the training works."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of a whole training."""

    scenes: int
    scenes_per_shard: int
    batch_size: int
    """Of the captioner; the CLIP, which learns from what does not belong together, has twice as many."""
    captioner_steps: int
    clip_steps: int
    save_every: int
    die_at: int
    """A step of the captioner's: between two that are saved, so that some are done again."""

    def times(self, number: int) -> "Size":
        """So many times as many steps."""
        return replace(
            self,
            captioner_steps=number * self.captioner_steps,
            clip_steps=number * self.clip_steps,
            die_at=self.die_at + (number - 1) * (self.captioner_steps // 2),
        )


FULL = Size(
    scenes=24_000,
    scenes_per_shard=2000,
    batch_size=32,
    captioner_steps=2400,
    clip_steps=800,
    save_every=100,
    die_at=1330,
)
SHORT = Size(scenes=500, scenes_per_shard=70, batch_size=16, captioner_steps=60, clip_steps=40, save_every=8, die_at=37)
