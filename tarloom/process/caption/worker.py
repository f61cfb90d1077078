"""From a batch to its answers: what is asked about each row, what a backend says, and what becomes of it in columns."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tarloom.format.sidecar import SUCCESS
from tarloom.process.batch import Batch, Picture, shrink
from tarloom.process.caption.backend import Backend, Question
from tarloom.process.caption.columns import row_of, schema_of
from tarloom.process.caption.language import LanguageStage
from tarloom.process.caption.stage import CaptionStage
from tarloom.process.stage import Ending, result_table
from tarloom.process.texts import text_at


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A row's questions, one a prompt; or none, and how it ends."""

    questions: Sequence[Question] = ()
    ending: Ending = (SUCCESS, None)


class LanguageWorker(ABC):
    """Answers batches by any backend."""

    def __init__(self, stage: LanguageStage, backend: Backend) -> None:
        self._inputs, self._backend = stage.inputs, backend
        self._prompts, self._captions = stage.prompts, stage.captions
        self.columns: pa.Schema = schema_of(self._captions)

    @abstractmethod
    def asked(self, batch: Batch) -> list[Asked]:
        """One a row, in order."""

    def __call__(self, batch: Batch) -> pa.Table:
        asked = self.asked(batch)
        said = iter(self._backend.ask([question for row in asked for question in row.questions]))
        values: list[Mapping[str, object]] = [{} for _ in asked]
        endings = [row.ending for row in asked]
        for number, row in enumerate(asked):
            if row.questions:
                values[number], endings[number] = row_of(self._captions, [next(said) for _ in row.questions])
        columns = {c.name: pa.array([row.get(c.name) for row in values], c.type) for c in self.columns}
        return result_table(self.columns, keys=batch.keys, values=columns, endings=endings)

    def close(self) -> None:
        self._backend.close()

    def known(self, batch: Batch, row: int) -> dict[str, str]:
        """What the prompts want to see of a row, as text; null is none."""
        return {name: text_at(batch.column(name), row) or "" for name in self._inputs}

    def questions(self, known: Mapping[str, str], **shown: Any) -> list[Question]:
        """One a prompt. shown: what they show besides it."""
        return [
            Question(
                prompt=prompt.filled(known),
                schema=None if caption.structure is None else caption.structure.schema,
                **shown,
            )
            for prompt, caption in zip(self._prompts, self._captions, strict=True)
        ]


class CaptionWorker(LanguageWorker):
    """Asks about pictures."""

    def __init__(self, stage: CaptionStage, backend: Backend) -> None:
        super().__init__(stage, backend)
        self._stage = stage

    def asked(self, batch: Batch) -> list[Asked]:
        pictures = batch.pictures(self._stage.at_least)
        return [self._about(batch, row, picture) for row, picture in enumerate(pictures)]

    def _about(self, batch: Batch, row: int, picture: Picture) -> Asked:
        if picture.rgb is None:
            return Asked(ending=picture.ending)
        uuid = hashlib.blake2b(picture.data, digest_size=16).hexdigest()
        rgb = shrink(picture.rgb, self._stage.max_pixels)
        return Asked(questions=self.questions(self.known(batch, row), rgb=rgb, uuid=uuid))
