"""What goes into a pass of the model, and what comes out of it: one for each row."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A picture to be painted."""

    prompt: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Painted:
    """What became of it."""

    pixels: np.ndarray | None
    """float32 of shape (height, width, 3), 0 to 1; None where the memory does not hold even one."""
    unsafe: bool = False
    """The model's own checker has blackened it."""
