"""A shard to be generated: the rows that stages are asked about, and the shard that becomes of their answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.create.sources.tables import ERROR
from tarloom.format.index import KEY
from tarloom.format.layout import rows_name
from tarloom.format.parquet import read_table
from tarloom.format.storage import Storage
from tarloom.generate.pack import PackRecipe, pack
from tarloom.process.loop.answers import Answers, report_of, room
from tarloom.process.task import RowsTask, StageReport


@dataclass(frozen=True, kw_only=True)
class GenerateTask(RowsTask):
    """Rows of `_tarloom/rows/SHARD.parquet`. Those that failed when the table was made are not asked about."""

    output: Storage
    name: str
    """Of the shard."""
    sound: int
    """Rows that have not failed yet."""
    columns: tuple[str, ...]
    """That the stages want to see."""
    recipe: PackRecipe

    @property
    def storage(self) -> Storage:
        return self.output

    @property
    def shard(self) -> str:
        return self.name

    @property
    def rows(self) -> int:
        return self.sound

    @property
    def where(self) -> str:
        return self.output.describe(rows_name(self.name))

    def read(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Cut into batches whatever is wanted of them, so that batches are those of an uninterrupted run."""
        table = self._table([KEY, ERROR, *self.columns])
        sound = table.filter(pc.is_null(table.column(ERROR))).drop_columns([ERROR])
        for numbers in np.split(wanted, np.flatnonzero(np.diff(wanted // self.batch_rows)) + 1):
            (batch,) = sound.take(pa.array(numbers)).combine_chunks().to_batches()
            yield numbers, batch

    def commit(self, answers: Mapping[str, Answers]) -> dict[str, StageReport]:
        """Pack the shard; its stats are the mark that it is done."""
        found = {name: answer.whole() for name, answer in answers.items()}
        if self.keep:
            with room():
                pack(self.output, self.name, self._table(None), found, self.recipe)
            for answer in answers.values():
                answer.drop_parts()
        return {name: report_of(table, answers[name].stage) for name, table in found.items()}

    def _table(self, columns: list[str] | None) -> pa.Table:
        return read_table(self.output, rows_name(self.name), columns).replace_schema_metadata(None)
