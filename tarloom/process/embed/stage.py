"""Embedding with CLIP, SigLIP or open_clip: what a user can choose, and vectors of single texts and pictures."""

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from tarloom.errors import ImageError, UsageError
from tarloom.process.batch import AT_LEAST
from tarloom.process.models import check_model, is_folder, may_be_the_same, model_identity, told_revision
from tarloom.process.stage import Stage, StageWorker

if TYPE_CHECKING:
    import numpy as np

    from tarloom.process.embed.vectors import Vectors

VERSION = "2"
"""Of what this code makes of the options below; a change of outputs changes it."""
NO_TEXT = "no_text"
"""The row's column of texts is empty."""
TEXT_COLUMN = "text_column"
"""In fingerprints: what was embedded, which is no part of how."""
DEFAULT_MODEL = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
OPEN_CLIP_CONFIG = "open_clip_config.json"
HUB_PREFIX = "hf-hub:"
"""With which open_clip marks names of models on the hub."""
_TAGGED = re.compile(r"[\w.-]+:[\w.-]+")
"""An architecture that open_clip knows, and the tag of its weights."""


@dataclass(frozen=True, kw_only=True)
class ModelStage(Stage):
    """Stages that a CLIP-like model answers, and how it computes."""

    model: str = DEFAULT_MODEL
    """A CLIP or SigLIP model of transformers: a folder, or a name on the Hugging Face hub. Of open_clip: a folder with
    open_clip_config.json, hf-hub:NAME, or ARCHITECTURE:TAG such as ViT-B-32:laion2b_s34b_b79k."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """What the model computes in; auto: float32 on a CPU, float16 on a GPU."""
    compile: bool = False
    """Compile the model with torch.compile first: half a minute or more at the start. For GPUs; CPUs gain little."""
    batch_size: int = 256
    """Rows under way at a time, half of them in the model: what a killed run may repeat. On a GPU the model is given as
    many at once as its memory takes."""

    calls: ClassVar[int] = 2

    @property
    def library(self) -> Literal["transformers", "open_clip"]:
        """What loads the model: its folder or the form of its name says so."""
        if not is_folder(self.model):
            return "open_clip" if ":" in self.model else "transformers"
        folder = Path(self.model).expanduser()
        ours = folder.joinpath("config.json").is_file() or not folder.joinpath(OPEN_CLIP_CONFIG).is_file()
        return "transformers" if ours else "open_clip"

    def check(self) -> None:
        """Raises UsageError for options that cannot work or a model that is not there."""
        if self.batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, not {self.batch_size}")
        if self.library == "transformers":
            check_model(self.model, revision=self.revision)
        elif self.revision is not None:
            raise UsageError(f"{self.model}: open_clip takes no revision; give a folder, or leave it out")
        elif not (is_folder(self.model) or _TAGGED.fullmatch(self.model) or self.model.startswith(HUB_PREFIX)):
            raise UsageError(
                f"{self.model}: no such folder; models of open_clip are named hf-hub:NAME or ARCHITECTURE:TAG"
            )

    def fingerprint(self) -> Mapping[str, str]:
        compiled = {"compile": "True"} if self.compile else {}
        return {
            "stage": "embed",
            "version": VERSION,
            "model": model_identity(self.model, revision=self.revision),
            "dtype": self.dtype,
            **compiled,
        }


@dataclass(frozen=True, kw_only=True)
class EmbedStage(ModelStage):
    """A unit vector for every picture, comparable with vectors of texts: column `embedding`, float16[dim]."""

    decode: Literal["cpu", "gpu"] = "cpu"
    """gpu: JPEGs are decoded where the model runs, on a GPU by nvjpeg, for machines whose cores do not keep up. Pixels
    differ by a level or two, and no other stage shares them."""

    name: ClassVar[str] = "clip"

    @property
    def at_least(self) -> int | None:
        return AT_LEAST if self.decode == "cpu" else None

    def fingerprint(self) -> Mapping[str, str]:
        decoded = {"decode": self.decode} if self.decode != "cpu" else {}
        return {**super().fingerprint(), **decoded}

    def open(self) -> StageWorker:
        from tarloom.process.embed.worker import PictureWorker

        return PictureWorker(self)


@dataclass(frozen=True, kw_only=True)
class EmbedTextStage(ModelStage):
    """A unit vector for every text of a column, to compare with those of pictures: column `embedding`, float16[dim]."""

    text_column: str = "caption"
    """Of the metadata, of sidecars (caption.text), of a stage before this one in the same run, or a member (txt)."""

    name: ClassVar[str] = "clip_text"
    members: ClassVar[tuple[str, ...]] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.text_column,)

    @property
    def at_least(self) -> None:
        return None

    def fingerprint(self) -> Mapping[str, str]:
        return {**super().fingerprint(), "stage": "embed texts", TEXT_COLUMN: self.text_column}

    def open(self) -> StageWorker:
        from tarloom.process.embed.worker import TextWorker

        return TextWorker(self)


def revision_of(model: str, made_with: str | None) -> str | None:
    """Which revision of a model made vectors, None for the one that is taken anyway. Raises UsageError where it must be
    another model.

    made_with: the model by their fingerprint; None where they do not name it.
    """
    revision = None if made_with is None or is_folder(model) else told_revision(made_with)
    found = model_identity(model, revision=revision)
    if made_with is not None and not may_be_the_same(found, made_with):
        raise UsageError(f"model {model}: is {found}, but the vectors were made with {made_with}; give that one")
    return revision


def text_vectors(model: str, texts: Sequence[str], *, revision: str | None = None) -> "np.ndarray":
    """Unit vectors of texts, to compare with the embeddings of pictures by the same model: float32 of shape (n, dim).

    Raises UsageError for a model that cannot be loaded, and for one text that is not in a list, whose letters would be
    texts; MissingExtra without the model's library.
    """
    if isinstance(texts, str):
        raise UsageError(f"texts come in a list, also where there is one: [{texts!r}]")
    with closing(_open(model, revision)) as vectors:
        return vectors.of_texts(texts)


def picture_vectors(model: str, pictures: Sequence[bytes], *, revision: str | None = None) -> "np.ndarray":
    """The same of encoded pictures. Raises UsageError for one that cannot be decoded, too."""
    from tarloom.read.samples.decode import decode_rgb  # loads the codecs

    decoded = []
    for number, data in enumerate(pictures):
        try:
            decoded.append(decode_rgb(data, at_least=AT_LEAST))
        except ImageError as error:
            raise UsageError(f"picture {number}: cannot be embedded ({error.name}); give another one") from error
    with closing(_open(model, revision)) as vectors:
        return vectors.of_pictures(decoded)


def _open(model: str, revision: str | None) -> "Vectors":
    stage = EmbedStage(model=model, revision=revision)
    stage.check()
    from tarloom.process.embed.vectors import Vectors

    return Vectors(stage)
