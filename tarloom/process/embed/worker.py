"""The embedders' workers: rows with a picture or a text have a unit vector, all others the reason why not."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tarloom.format.sidecar import SKIPPED, SUCCESS
from tarloom.process.batch import Batch
from tarloom.process.embed.stage import NO_TEXT, EmbedStage, EmbedTextStage, ModelStage
from tarloom.process.stage import Ending, result_table


class _Embedder:
    """Raises UsageError where the model cannot be loaded."""

    def __init__(self, stage: ModelStage) -> None:
        from tarloom.process.embed.vectors import Vectors  # loads torch

        self._vectors = Vectors(stage)
        self.columns = pa.schema([("embedding", pa.list_(pa.float16(), self._vectors.width))])

    def close(self) -> None:
        """Free the model's memory."""
        self._vectors.close()

    def _answer(self, batch: Batch, vectors: np.ndarray, present: np.ndarray, endings: Sequence[Ending]) -> pa.Table:
        """vectors: of the rows that are present (bool of shape (rows,)), in order."""
        every = np.zeros((len(present), self._vectors.width), np.float16)
        every[present] = vectors
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(every.ravel()), every.shape[1], mask=pa.array(~present))
        return result_table(self.columns, keys=batch.keys, values={"embedding": embedding}, endings=endings)


class PictureWorker(_Embedder):
    """Answers batches with vectors of their pictures."""

    def __init__(self, stage: EmbedStage) -> None:
        super().__init__(stage)

    def __call__(self, batch: Batch) -> pa.Table:
        pictures = batch.pictures()
        seen = [picture.rgb for picture in pictures if picture.rgb is not None]
        present = np.array([picture.rgb is not None for picture in pictures], bool)
        endings = [picture.ending for picture in pictures]
        return self._answer(batch, self._vectors.of_pictures(seen), present, endings)


class TextWorker(_Embedder):
    """Answers batches with vectors of a column's texts."""

    def __init__(self, stage: EmbedTextStage) -> None:
        super().__init__(stage)
        self._column = stage.text_column
        self._vectors.of_texts([""])  # the tokenizer is part of what may not be there

    def __call__(self, batch: Batch) -> pa.Table:
        column = batch.column(self._column).cast(pa.string())
        present = np.asarray(column.is_valid())
        endings = [(SUCCESS, None) if there else (SKIPPED, NO_TEXT) for there in present]
        texts = [str(text) for text in column.drop_null().to_pylist()]
        return self._answer(batch, self._vectors.of_texts(texts), present, endings)
