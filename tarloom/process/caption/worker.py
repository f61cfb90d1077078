"""From a batch to its captions: what each picture is asked, what a backend says, and what becomes of it in columns."""

import hashlib
from collections.abc import Iterator

import pyarrow as pa

from tarloom.process.batch import Batch, Picture, shrink
from tarloom.process.caption.backend import Backend, Question
from tarloom.process.caption.columns import row_of, schema_of
from tarloom.process.caption.stage import CaptionStage
from tarloom.process.stage import Ending, result_table


class CaptionWorker:
    """Answers batches with captions by any backend."""

    def __init__(self, stage: CaptionStage, backend: Backend) -> None:
        self._stage, self._backend = stage, backend
        self._prompts, self._captions = stage.prompts, stage.captions
        self.columns: pa.Schema = schema_of(self._captions)

    def __call__(self, batch: Batch) -> pa.Table:
        pictures = batch.pictures(self._stage.at_least)
        endings: list[Ending] = [picture.ending for picture in pictures]
        rows = [row for row, picture in enumerate(pictures) if picture.rgb is not None]
        said = iter(self._backend.ask([q for row in rows for q in self._questions(batch, row, pictures[row])]))
        values: list[dict[str, object]] = [{} for _ in pictures]
        for row in rows:
            values[row], endings[row] = row_of(self._captions, [next(said) for _ in self._captions])
        columns = {c.name: pa.array([row.get(c.name) for row in values], c.type) for c in self.columns}
        return result_table(self.columns, keys=batch.keys, values=columns, endings=endings)

    def close(self) -> None:
        self._backend.close()

    def _questions(self, batch: Batch, row: int, picture: Picture) -> Iterator[Question]:
        """One a prompt."""
        assert picture.rgb is not None
        rgb = shrink(picture.rgb, self._stage.max_pixels)
        uuid = hashlib.blake2b(picture.data, digest_size=16).hexdigest()
        known = {name: batch.column(name)[row].as_py() for name in self._stage.inputs}
        for prompt, caption in zip(self._prompts, self._captions, strict=True):
            schema = None if caption.structure is None else caption.structure.schema
            yield Question(rgb=rgb, prompt=prompt.filled(known), uuid=uuid, schema=schema)
