"""One caption of several for each sample: the original, or one that a stage wrote, chosen by chance.

ds.to_torch(256, captions=Captions(of={"caption": 0.3, "short.text": 0.5, "long.text": 0.2}))      # batch["text"]
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import UsageError
from tarloom.read.feed.chance import uniform
from tarloom.read.feed.order import Numbers, Places
from tarloom.read.plan.pieces import ChunkedArray


@dataclass(frozen=True, kw_only=True)
class Captions:
    """A column of a batch that has for each sample the value of one of several columns."""

    of: Mapping[str, float]
    """Columns, and how probable each is. For a sample that has null in some of them, the others are the more so."""
    name: str = "text"
    """Of the column."""

    def check(self) -> None:
        """Raises UsageError for probabilities that cannot be."""
        if not self.of:
            raise UsageError("captions are chosen of no column; name some, such as: of={'caption': 1}")
        for column, weight in self.of.items():
            if not (weight > 0 and math.isfinite(weight)):
                raise UsageError(f"captions: the probability of {column} is {weight}; give one greater than 0")

    def chosen(self, columns: Mapping[str, ChunkedArray], places: Places, *, seed: int) -> list[str | None]:
        """Of each sample in its pass, whoever reads it; null where all of them are. columns: at least those named."""
        found = [columns[column] for column in self.of]
        present = np.stack([column.is_valid().to_numpy() for column in found], axis=1)
        draws = uniform(seed, "caption", places.sources, places.passes, places.shards, places.rows)
        numbers = choice(np.array(list(self.of.values())), present, draws)
        texts = pc.choose(pa.array(numbers, mask=numbers < 0), *(column.cast(pa.string()) for column in found))
        values: list[str | None] = texts.to_pylist()
        return values


def choice(weights: npt.NDArray[np.float64], present: npt.NDArray[np.bool_], draws: npt.NDArray[np.float64]) -> Numbers:
    """The number of one of those that are present, with probabilities that go as the weights; -1 where there is none.

    weights: of shape (choices,), greater than 0; present: (samples, choices); draws: (samples,), from 0 up to 1.
    """
    reached = np.cumsum(weights * present, axis=1)
    wanted = np.minimum(draws * reached[:, -1], np.nextafter(reached[:, -1], 0))  # which rounding could make equal
    above = reached > wanted[:, None]
    return np.where(present.any(axis=1), above.argmax(axis=1), -1)
