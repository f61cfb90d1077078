"""A small stage that sees pictures."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from tarloom.process.batch import AT_LEAST, Batch
from tarloom.process.stage import Stage, result_table


@dataclass(frozen=True, kw_only=True)
class PixelStage(Stage):
    """One number of all pixels of a picture: their mean, min or max."""

    what: str = "mean"
    batch_size: int = 4
    at_least: int = AT_LEAST

    name: ClassVar[str] = "pixels"

    def fingerprint(self):
        return {"stage": "pixels", "what": self.what, "at_least": str(self.at_least)}

    def open(self):
        return PixelWorker(self)


class PixelWorker:
    columns = pa.schema([("value", pa.float64())])

    def __init__(self, stage: PixelStage) -> None:
        self._stage = stage

    def __call__(self, batch: Batch) -> pa.Table:
        pictures = batch.pictures(self._stage.at_least)
        values = [None if p.rgb is None else float(getattr(np, self._stage.what)(p.rgb)) for p in pictures]
        endings = [picture.ending for picture in pictures]
        return result_table(self.columns, keys=batch.keys, values={"value": pa.array(values)}, endings=endings)

    def close(self) -> None:
        pass
