"""The embedders' workers: rows with a picture or a text have a unit vector, all others the reason why not."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tarloom.format.sidecar import FAILED, SKIPPED, SUCCESS
from tarloom.process.batch import Batch, stored_pictures
from tarloom.process.embed.stage import NO_TEXT, EmbedStage, EmbedTextStage, ModelStage
from tarloom.process.stage import Ending, result_table
from tarloom.process.texts import texts_of

NOT_FINITE = "vector_not_finite"
"""The model computed infinities, as some do in half precision."""


class _Embedder:
    """Raises UsageError where the model cannot be loaded."""

    def __init__(self, stage: ModelStage) -> None:
        from tarloom.process.embed.vectors import Vectors  # loads torch

        self._vectors = Vectors(stage)
        self.columns = pa.schema([("embedding", pa.list_(pa.float16(), self._vectors.width))])

    def close(self) -> None:
        """Free the model's memory."""
        self._vectors.close()

    def _answer(self, batch: Batch, rows: Sequence[int], vectors: np.ndarray, endings: list[Ending]) -> pa.Table:
        """vectors: of these rows, which end well if their vectors are numbers."""
        every = np.zeros((len(batch), self._vectors.width), np.float16)
        every[rows] = vectors
        for row in np.flatnonzero(~np.isfinite(every).all(axis=1)):
            endings[row] = FAILED, NOT_FINITE
        missing = pa.array([status != SUCCESS for status, _ in endings], pa.bool_())
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(every.ravel()), every.shape[1], mask=missing)
        return result_table(self.columns, keys=batch.keys, values={"embedding": embedding}, endings=endings)


class PictureWorker(_Embedder):
    """Answers batches with vectors of their pictures."""

    def __init__(self, stage: EmbedStage) -> None:
        super().__init__(stage)
        self._on_device = stage.decode == "gpu"
        if self._on_device:
            import tarloom.process.embed.jpegs  # noqa: F401 - whether torchvision is there is said before work starts

    def __call__(self, batch: Batch) -> pa.Table:
        rows, vectors = self._of_jpegs(batch) if self._on_device else ([], self._vectors.of_pictures([]))
        left = sorted(set(range(len(batch))) - set(rows))
        pictures = (batch.select(left) if rows else batch).pictures()
        shown = {row: picture.rgb for row, picture in zip(left, pictures, strict=True) if picture.rgb is not None}
        endings: list[Ending] = [(SUCCESS, None)] * len(batch)
        for row, picture in zip(left, pictures, strict=True):
            endings[row] = picture.ending
        seen = self._vectors.of_pictures(list(shown.values()))
        return self._answer(batch, [*rows, *shown], np.concatenate([vectors, seen]), endings)

    def _of_jpegs(self, batch: Batch) -> tuple[list[int], np.ndarray]:
        """Rows whose pictures can be decoded where the model runs, and their vectors."""
        from tarloom.process.embed.jpegs import is_plain

        stored = {row: data for row, data in enumerate(stored_pictures(batch.rows)) if data and is_plain(data)}
        vectors = self._vectors.of_jpegs(list(stored.values()))
        sound = np.isfinite(vectors).all(axis=1)
        return np.array(list(stored), np.int64)[sound].tolist(), vectors[sound]


class TextWorker(_Embedder):
    """Answers batches with vectors of a column's texts."""

    def __init__(self, stage: EmbedTextStage) -> None:
        super().__init__(stage)
        self._column = stage.text_column
        self._vectors.of_texts([""])  # the tokenizer is part of what may not be there

    def __call__(self, batch: Batch) -> pa.Table:
        texts = texts_of(batch.column(self._column))
        present = {row: text for row, text in enumerate(texts) if text is not None}
        endings: list[Ending] = [(SKIPPED, NO_TEXT) if text is None else (SUCCESS, None) for text in texts]
        return self._answer(batch, list(present), self._vectors.of_texts(list(present.values())), endings)
