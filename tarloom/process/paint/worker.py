"""From a batch of prompts to their pictures: rows without a prompt, or with too long a one, say so."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from PIL import Image

from tarloom.errors import ImageError
from tarloom.format.cpus import cpu_share
from tarloom.format.sidecar import FAILED, SKIPPED, SUCCESS
from tarloom.process.batch import Batch
from tarloom.process.paint.pass_rows import Painted, Wanted
from tarloom.process.paint.stage import OUT_OF_MEMORY, PaintStage, picture_seed
from tarloom.process.stage import Ending, result_table
from tarloom.process.texts import texts_of

if TYPE_CHECKING:
    from tarloom.format.pictures import Pixels  # loads the codecs

_TYPES: dict[str, pa.DataType] = {
    "picture": pa.binary(),
    "width": pa.int32(),
    "height": pa.int32(),
    "seed": pa.int64(),
    "prompt": pa.string(),
    "message": pa.string(),
}
COLUMNS = pa.schema(_TYPES)
"""prompt: as it was painted. message: what went wrong, in words."""
NO_PROMPT = "no_prompt"
PROMPT_TOO_LONG = "prompt_too_long"
NOT_FINITE = "picture_not_finite"
UNSAFE = "picture_refused"


@dataclass(kw_only=True)
class Row:
    """What is known of one so far."""

    seed: int
    prompt: str | None
    picture: bytes | None = None
    width: int | None = None
    height: int | None = None
    message: str | None = None
    ending: Ending = (SUCCESS, None)

    def ends(self, status: str, error: str, message: str) -> None:
        self.ending, self.message = (status, error), message


class PaintWorker:
    """Answers batches with pictures. Raises UsageError where the model cannot be loaded."""

    columns = COLUMNS

    def __init__(self, stage: PaintStage) -> None:
        from tarloom.create.pictures.encode import encoded  # loads OpenCV
        from tarloom.process.paint.with_diffusers import Painter  # loads torch

        self._stage, self._encoded = stage, encoded
        self._painter = Painter(stage)
        self._threads = ThreadPoolExecutor(cpu_share(), thread_name_prefix="tarloom-encode")

    def __call__(self, batch: Batch) -> pa.Table:
        prompts = texts_of(batch.column(self._stage.prompt_column))
        rows = [self._row(str(key), prompt) for key, prompt in zip(batch.keys.to_pylist(), prompts, strict=True)]
        wanted = [row for row in rows if row.ending[0] == SUCCESS]
        painted = self._painter([Wanted(prompt=row.prompt or "", seed=row.seed) for row in wanted])
        list(self._threads.map(self._finish, wanted, painted))
        return _table(batch, rows)

    def close(self) -> None:
        """Free the model's memory."""
        self._painter.close()
        self._threads.shutdown()

    def _row(self, key: str, prompt: str | None) -> Row:
        """How far it is without a picture: whether there is a prompt that the model can read."""
        row = Row(seed=picture_seed(self._stage.seed, key), prompt=prompt)
        if row.prompt is None or not row.prompt.strip():
            row.ends(SKIPPED, NO_PROMPT, f"the row has nothing in {self._stage.prompt_column}")
            return row
        reach = self._painter.reach
        tokens = 0 if reach is None else reach.count(row.prompt)
        if reach is not None and tokens > reach.tokens:
            if self._stage.truncate_prompts:
                row.prompt = reach.cut(row.prompt)
            else:
                row.ends(FAILED, PROMPT_TOO_LONG, f"{tokens} tokens, of which the model reads {reach.tokens}")
        return row

    def _finish(self, row: Row, painted: Painted) -> None:
        """Encode what was painted."""
        if painted.pixels is None:
            row.ends(FAILED, OUT_OF_MEMORY, "the memory did not hold the model's pass over one picture")
        elif painted.unsafe:
            row.ends(FAILED, UNSAFE, "the model's own checker has blackened the picture")
        elif not np.isfinite(painted.pixels).all():
            row.ends(FAILED, NOT_FINITE, "the model computed no finite numbers; try dtype bfloat16 or float32")
        else:
            self._encode(row, (painted.pixels * 255).round().astype(np.uint8))

    def _encode(self, row: Row, pixels: "Pixels") -> None:
        height, width = (side * self._stage.upscale for side in pixels.shape[:2])
        if self._stage.upscale > 1:
            pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
        try:
            row.picture = self._encoded(pixels, self._stage.encode_format, self._stage.quality)
        except ImageError as error:
            row.ends(FAILED, error.name, error.reason)
            return
        row.width, row.height = width, height


def _table(batch: Batch, rows: Sequence[Row]) -> pa.Table:
    values = {field.name: pa.array([getattr(row, field.name) for row in rows], field.type) for field in COLUMNS}
    return result_table(COLUMNS, keys=batch.keys, values=values, endings=[row.ending for row in rows])
