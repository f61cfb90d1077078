"""How well a text fits its picture: the cosine of their vectors by CLIP or a model like it.

Vectors are rounded as the embed stages write them: a score is the same whether the picture's vector is made here or
comes from a sidecar.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from tarloom.errors import UsageError
from tarloom.format.layout import IMAGE_MEMBERS
from tarloom.format.sidecar import FAILED, SKIPPED, SUCCESS
from tarloom.process.batch import AT_LEAST, Batch
from tarloom.process.embed.stage import NO_TEXT, ModelStage
from tarloom.process.embed.worker import NOT_FINITE
from tarloom.process.models import may_be_the_same
from tarloom.process.stage import Ending, StageWorker, result_table
from tarloom.process.stages.vectors import NO_EMBEDDING, row_products, vectors_of
from tarloom.process.texts import texts_of

_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class ClipScoreStage(ModelStage):
    """The cosine of every picture and its text, -1 to 1: column `score`."""

    texts: str = "caption.text"
    """The column of texts: of the metadata, of a sidecar, or of a stage before this one."""
    pictures: str | None = None
    """A column of picture vectors by the same model, such as clip.embedding; without one they are made here."""

    name: ClassVar[str] = "clip_score"

    @property
    def members(self) -> tuple[str, ...]:  # type: ignore[override]
        """Where the vectors are there already, no picture is read."""
        return IMAGE_MEMBERS if self.pictures is None else ()

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.texts,) if self.pictures is None else (self.texts, self.pictures)

    @property
    def at_least(self) -> int | None:
        return AT_LEAST if self.pictures is None else None

    def check_input(self, column: str, made_with: Mapping[str, str]) -> None:
        mine, other = self.fingerprint()["model"], made_with.get("model")
        if column == self.pictures and other is not None and not may_be_the_same(mine, other):
            raise UsageError(
                f"{column}: made with {other}, but model {self.model} is {mine}; name the model that made it"
            )

    def fingerprint(self) -> Mapping[str, str]:
        columns = {"texts": self.texts, "pictures": str(self.pictures)}
        return {**super().fingerprint(), "stage": self.name, "score version": "1", **columns}

    def open(self) -> StageWorker:
        return _Scorer(self)


class _Scorer:
    """Answers batches with cosines. Raises UsageError where the model cannot be loaded."""

    columns = pa.schema([("score", pa.float32())])

    def __init__(self, stage: ClipScoreStage) -> None:
        from tarloom.process.embed.vectors import Vectors  # loads torch

        self._stage = stage
        self._vectors = Vectors(stage)

    def __call__(self, batch: Batch) -> pa.Table:
        texts = texts_of(batch.column(self._stage.texts))
        read = _endings([text is not None for text in texts], NO_TEXT)
        endings = [_ending(*both) for both in zip(self._pictures(batch), read, strict=True)]
        there = np.array([status == SUCCESS for status, _ in endings], bool)
        scores = np.zeros(len(there), np.float32)
        rows = np.flatnonzero(there).tolist()
        seen = self._picture_vectors(batch.select(rows))
        scores[there] = _cosines(seen, self._vectors.of_texts([texts[row] or "" for row in rows]))
        for row in np.flatnonzero(~np.isfinite(scores)):
            there[row], endings[row] = False, (FAILED, NOT_FINITE)
        values = {"score": pa.array(scores, mask=~there)}
        return result_table(self.columns, keys=batch.keys, values=values, endings=endings)

    def close(self) -> None:
        self._vectors.close()

    def _pictures(self, batch: Batch) -> list[Ending]:
        """What becomes of each row, as far as its picture goes."""
        if self._stage.pictures is None:
            return [picture.ending for picture in batch.pictures()]
        there, _ = vectors_of(batch.column(self._stage.pictures), self._stage.pictures)
        return _endings(there.tolist(), NO_EMBEDDING)

    def _picture_vectors(self, batch: Batch) -> np.ndarray:
        if self._stage.pictures is None:
            return self._vectors.of_pictures([p.rgb for p in batch.pictures() if p.rgb is not None])
        _, vectors = vectors_of(batch.column(self._stage.pictures), self._stage.pictures)
        if vectors.shape[1] != self._vectors.width:
            raise UsageError(
                f"{self._stage.pictures}: vectors of {vectors.shape[1]} dimensions, but those of {self._stage.model} "
                f"have {self._vectors.width}; name the model that made the column"
            )
        return vectors


def _endings(there: Sequence[bool], missing: str) -> list[Ending]:
    return [(SUCCESS, None) if each else (SKIPPED, missing) for each in there]


def _ending(picture: Ending, text: Ending) -> Ending:
    """A row's: what is wrong with its picture comes first."""
    return text if picture[0] == SUCCESS else picture


def _cosines(pictures: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Of each row of two arrays of shape (rows, dim)."""
    one, other = (vectors.astype(np.float16).astype(np.float64) for vectors in (pictures, texts))
    norms = np.sqrt(row_products(one, one) * row_products(other, other))
    return np.asarray(row_products(one, other) / np.maximum(norms, _TINY))
