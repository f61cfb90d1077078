"""Several datasets as one feed, by weights: tarloom.mix((photos, 0.7), (drawings, 0.3)).to_torch(256, seed=1)"""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

from tarloom.errors import UsageError
from tarloom.read.dataset import Dataset
from tarloom.read.feed.feedable import Feedable
from tarloom.read.feed.state import whole


def mix(*parts: tuple[Dataset, float], samples: int | None = None) -> "Mixture":
    """Datasets with weights, which say how many of an epoch's samples are from each; 0.7 and 0.3 as well as 7 and 3.

    Each is gone through in its own order; one that is used up begins its next pass, others go on where they stood when
    the next epoch begins. samples: of an epoch; by default as many as all have together. Raises UsageError.
    """
    if not parts or not all(map(_is_weighted, parts)):
        raise UsageError("mix: give datasets and weights, such as: tarloom.mix((a, 0.7), (b, 0.3))")
    for dataset, weight in parts:
        if not (weight > 0 and math.isfinite(weight)):
            raise UsageError(f"mix: the weight of {dataset.path} is {weight}; give one greater than 0")
    samples = None if samples is None else whole("samples", samples)
    if samples is not None and samples < 1:
        raise UsageError(f"mix: an epoch cannot have {samples} samples; give 1 or more")
    datasets, weights = zip(*parts, strict=True)
    return Mixture(datasets=datasets, weights=weights, samples=samples)


def _is_weighted(part: Any) -> bool:
    """Whether it is a dataset and a number."""
    pair = isinstance(part, tuple | list) and len(part) == 2
    return pair and isinstance(part[0], Dataset) and isinstance(part[1], Real)


@dataclass(frozen=True, kw_only=True)
class Mixture(Feedable):
    """See mix."""

    datasets: tuple[Dataset, ...]
    weights: tuple[float, ...]
    samples: int | None = None
    """Of an epoch; None for as many as all have together."""
