"""What an embedding model offers, whichever library it comes from, and how it wants to see pictures.

An encoder knows nothing of rows, batches, threads or memory: it is given one pass's pictures or texts at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from tarloom.process.embed.stage import ModelStage


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How a picture becomes what the model takes. Sizes are (height, width)."""

    resize: int | tuple[int, int]
    """Of the shorter side, the aspect kept; or of both sides, the picture squashed."""
    crop: tuple[int, int]
    """What is cut out of the middle; no larger than the resized picture."""
    resample: Literal["bilinear", "bicubic"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1 / 255
    """What bytes are multiplied by before mean and std are applied."""
    half_up: bool = False
    """Where a crop cannot be in the middle: half a pixel is rounded (to even), not cut off."""


class Encoder(Protocol):
    """A model that is loaded. Its tensors are torch's; features of rows, not yet of length one."""

    fitting: Fitting
    width: int
    """Of its vectors."""
    device: Any
    dtype: Any

    def pictures(self, pixels: Any) -> Any:
        """Features of fitted pictures, of shape (pictures, 3, height, width), on the device and of its dtype."""
        ...

    def length(self, text: str) -> int:
        """Tokens that a text is padded to: texts of one length can be in one pass."""
        ...

    def texts(self, texts: Sequence[str], length: int) -> Any:
        """Features of texts, padded or cut to that many tokens."""
        ...


def open_encoder(stage: "ModelStage") -> Encoder:
    """Load the model. Raises UsageError where it cannot be, MissingExtra without its library."""
    if stage.library == "open_clip":
        from tarloom.process.embed.with_open_clip import OpenClipEncoder

        encoder: Encoder = OpenClipEncoder(stage)
    else:
        from tarloom.process.embed.with_transformers import TransformersEncoder

        encoder = TransformersEncoder(stage)
    return encoder
