"""Pictures as training wants them: all of one size, cut out by chance that belongs to the sample."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""Of shape (height, width, 3), RGB."""
DRAWS = 6
"""Numbers by chance that a picture gets, each from 0 up to 1."""


class Fit(Protocol):
    """How a picture of any size becomes one of a fixed size."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what comes out."""
        ...

    def fit(self, pixels: Pixels, out: Pixels, draws: npt.NDArray[np.float64]) -> None:
        """Write it into `out`. draws: float64 of shape (DRAWS,)."""
        ...


@dataclass(frozen=True)
class RandomCrop:
    """A part by chance, at the picture's own scale, mirrored with probability `flip`."""

    size: int
    flip: float = 0.5

    @property
    def shape(self) -> tuple[int, int]:
        """See Fit."""
        return self.size, self.size

    def fit(self, pixels: Pixels, out: Pixels, draws: npt.NDArray[np.float64]) -> None:
        """See Fit."""
        height, width, _ = pixels.shape
        top, left = int(draws[0] * (height - self.size + 1)), int(draws[1] * (width - self.size + 1))
        part = pixels[top : top + self.size, left : left + self.size]
        np.copyto(out, part[:, ::-1] if draws[2] < self.flip else part)
