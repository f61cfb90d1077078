"""From a batch to its captions: what each picture is asked, what a backend says, and what becomes of it in columns."""

import hashlib
from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa

from tarloom.process.batch import Batch, Picture, shrink
from tarloom.process.caption.backend import Backend, Question, Said
from tarloom.process.caption.stage import CaptionStage
from tarloom.process.stage import result_table

_COLUMNS: dict[str, pa.DataType] = {
    "text": pa.string(),
    "finish_reason": pa.string(),
    "prompt_tokens": pa.int32(),
    "output_tokens": pa.int32(),
}


class CaptionWorker:
    """Answers batches with captions by any backend."""

    columns: ClassVar[pa.Schema] = pa.schema(_COLUMNS)

    def __init__(self, stage: CaptionStage, backend: Backend) -> None:
        self._stage, self._backend = stage, backend

    def __call__(self, batch: Batch) -> pa.Table:
        pictures = batch.pictures(self._stage.at_least)
        said = [Said(ending=picture.ending) for picture in pictures]
        rows = [row for row, picture in enumerate(pictures) if picture.rgb is not None]
        answers = self._backend.ask([self._question(pictures[row]) for row in rows])
        for row, answer in zip(rows, answers, strict=True):
            said[row] = answer
        return self._table(batch, said)

    def close(self) -> None:
        self._backend.close()

    def _question(self, picture: Picture) -> Question:
        assert picture.rgb is not None
        return Question(
            rgb=shrink(picture.rgb, self._stage.max_pixels),
            prompt=self._stage.prompt,
            uuid=hashlib.blake2b(picture.data, digest_size=16).hexdigest(),
        )

    def _table(self, batch: Batch, said: Sequence[Said]) -> pa.Table:
        values = {field.name: pa.array([getattr(s, field.name) for s in said], field.type) for field in self.columns}
        return result_table(self.columns, keys=batch.keys, values=values, endings=[s.ending for s in said])
