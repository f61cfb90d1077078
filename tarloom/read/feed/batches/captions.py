"""One caption of several for each sample: the original, or one that a stage wrote, chosen by chance.

ds.to_torch(256, captions=Captions(of={"txt": 0.3, "short.text": 0.5, "long.text": 0.2}))       # batch["text"]
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import UsageError
from tarloom.format.arrow_types import Array
from tarloom.read.feed.fetching.fetch import Fetched
from tarloom.read.feed.order.chance import Numbers, uniform


@dataclass(frozen=True, kw_only=True)
class Captions:
    """A column of a batch that has for each sample the text of one of several columns or members."""

    of: Mapping[str, float]
    """Columns and members, and how probable each is. For a sample that lacks some of them, the others are the more so.
    """
    name: str = "text"
    """Of the column."""

    def __post_init__(self) -> None:
        if not (isinstance(self.of, Mapping) and all(isinstance(weight, Real) for weight in self.of.values())):
            raise UsageError(f'captions: say how probable each is, such as of={{"caption": 1}}; not of={self.of!r:.80}')

    def check(self, schema: pa.Schema) -> None:
        """Raises UsageError for probabilities that cannot be, and where batches of this schema hold no such texts."""
        if not self.of:
            raise UsageError("captions are chosen of nothing; name columns, such as: of={'caption': 1}")
        for name, weight in self.of.items():
            if not (weight > 0 and math.isfinite(weight)):
                raise UsageError(f"captions: the probability of {name} is {weight}; give one greater than 0")
            kind = schema.field(name).type
            if not any(is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)):
                raise UsageError(f"captions: {name} is {kind}; name columns or members that are text")

    def chosen(self, samples: Fetched, *, seed: int) -> list[str | None]:
        """Of each sample in its pass, whoever reads it; None where it has none of them."""
        texts = [_texts(samples, name) for name in self.of]
        present = np.stack([column.is_valid().to_numpy(zero_copy_only=False) for column in texts], axis=1)
        places = samples.places
        draws = uniform(seed, "caption", places.sources, places.passes, places.shards, places.rows)
        numbers = choice(np.array(list(self.of.values())), present, draws)
        values: list[str | None] = pc.choose(pa.array(numbers, mask=numbers < 0), *texts).to_pylist()
        return values


def _texts(samples: Fetched, name: str) -> Array:
    if name in samples.columns:
        return samples.columns[name].combine_chunks().cast(pa.string())
    found = samples.members[name]
    return pa.array([None if data is None else str(data, "utf-8", "replace") for data in found], pa.string())


def choice(weights: npt.NDArray[np.float64], present: npt.NDArray[np.bool_], draws: npt.NDArray[np.float64]) -> Numbers:
    """The number of one of those that are present, with probabilities that go as the weights; -1 where there is none.

    weights: of shape (choices,), greater than 0; present: (samples, choices); draws: (samples,), from 0 up to 1.
    """
    reached = np.cumsum(weights * present, axis=1)
    wanted = np.minimum(draws * reached[:, -1], np.nextafter(reached[:, -1], 0))  # which rounding could make equal
    above = reached > wanted[:, None]
    return np.where(present.any(axis=1), above.argmax(axis=1), -1)
