"""Embedding with CLIP or SigLIP: what a user can choose, and vectors of texts for queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tarloom.errors import UsageError
from tarloom.process.models import check_model, model_identity
from tarloom.process.stage import Stage, StageWorker

if TYPE_CHECKING:
    import numpy as np

VERSION = "1"
"""Of what this code makes of the options below; a change of outputs changes it."""


@dataclass(frozen=True, kw_only=True)
class EmbedStage(Stage):
    """A unit vector for every picture, comparable with vectors of texts: column `embedding`, float16[dim]."""

    model: str
    """A CLIP or SigLIP model of transformers: a folder, or a name on the Hugging Face hub."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """What the model computes in; auto: float32 on a CPU, float16 on a GPU."""
    batch_size: int = 64
    """Pictures in one pass through the model."""

    name: ClassVar[str] = "clip"

    def check(self) -> None:
        """Raises UsageError for options that cannot work or a model that is not there."""
        if self.batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, not {self.batch_size}")
        check_model(self.model, revision=self.revision)

    def fingerprint(self) -> Mapping[str, str]:
        return {
            "stage": "embed",
            "version": VERSION,
            "model": model_identity(self.model, revision=self.revision),
            "dtype": self.dtype,
        }

    def open(self) -> StageWorker:
        from tarloom.process.embed.with_transformers import Embedder

        return Embedder(self)


def text_vectors(model: str, texts: Sequence[str], *, revision: str | None = None) -> "np.ndarray":
    """Unit vectors of texts, to compare with the embeddings of pictures by the same model: float32 of shape (n, dim).

    Raises UsageError for a model that cannot be loaded, MissingExtra without transformers.
    """
    check_model(model, revision=revision)
    from tarloom.process.embed.with_transformers import embed_texts

    return embed_texts(EmbedStage(model=model, revision=revision), texts)
