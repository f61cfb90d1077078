"""Several datasets as one feed, by weights: tarloom.mix((photos, 0.7), (drawings, 0.3)).to_torch(256, seed=1)"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tarloom.errors import UsageError
from tarloom.read.dataset import Dataset

if TYPE_CHECKING:
    from tarloom.read.feed.feed import Feed
    from tarloom.read.feed.torch import TorchFeed


def mix(*parts: tuple[Dataset, float], samples: int | None = None) -> "Mixture":
    """Datasets with weights, which say how many of an epoch's samples are from each; 0.7 and 0.3 as well as 7 and 3.

    Each is gone through in its own order; one that is used up begins its next pass, others go on where they stood when
    the next epoch begins. samples: of an epoch; by default as many as all have together. Raises UsageError.
    """
    if not parts:
        raise UsageError("mix: give datasets and weights, such as: tarloom.mix((a, 0.7), (b, 0.3))")
    for dataset, weight in parts:
        if not (weight > 0 and math.isfinite(weight)):
            raise UsageError(f"mix: the weight of {dataset.path} is {weight}; give one greater than 0")
    if samples is not None and samples < 1:
        raise UsageError(f"mix: an epoch cannot have {samples} samples; give 1 or more")
    datasets, weights = zip(*parts, strict=True)
    return Mixture(datasets=datasets, weights=weights, samples=samples)


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """See mix."""

    datasets: tuple[Dataset, ...]
    weights: tuple[float, ...]
    samples: int | None = None
    """Of an epoch; None for as many as all have together."""

    def to_numpy(self, batch_size: int, *, rank: int = 0, world_size: int = 1, **options: Any) -> "Feed":
        """See Dataset. All datasets must yield the same members and columns: columns=(...) selects them of each."""
        from tarloom.read.feed.options import FeedOptions, new_feed

        return new_feed(self, batch_size, FeedOptions(**options), rank=rank, world_size=world_size)

    def to_torch(
        self,
        batch_size: int,
        *,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        **options: Any,
    ) -> "TorchFeed":
        """The same with tensors for arrays. See Dataset."""
        from tarloom.read.feed.torch import TorchFeed, place

        rank, world_size = place(rank, world_size)
        feed = self.to_numpy(batch_size, rank=rank, world_size=world_size, **options)
        return TorchFeed(feed, transform=transform)
