"""How warm a picture looks: a stage of one's own. Try it: tarloom process SHARDS --stages own_stage:Warmth"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from tarloom.errors import RowError
from tarloom.process.picture_stage import PictureStage


@dataclass(frozen=True, kw_only=True)
class Warmth(PictureStage):
    """How much more red than blue there is in a picture: column `warmth`."""

    darkest: float = 10.0
    """Pictures whose mean (0 to 255) is less have no colour to speak of: they fail by the name too_dark."""

    name: ClassVar[str] = "warmth"
    columns: ClassVar[Mapping[str, pa.DataType]] = {"warmth": pa.float32()}
    version: ClassVar[str] = "1"  # another one when the code below comes to answer otherwise

    def look(self, rgb: np.ndarray) -> Mapping[str, float]:
        red, green, blue = rgb.mean(axis=(0, 1))
        if (red + green + blue) / 3 < self.darkest:
            raise RowError("too_dark", "there is no colour to speak of")
        return {"warmth": red - blue}
