"""What is made of each row of the prompt table: its key, derived columns, and its prompt."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.create.rows import row_key
from tarloom.create.sources.keys import cleaned_key
from tarloom.create.sources.tables import ERROR, ROW
from tarloom.create.texts import as_text, times_as_text
from tarloom.format.arrow_types import Array
from tarloom.format.index import KEY
from tarloom.generate.tables.matching import Join, with_errors
from tarloom.process.caption.prompts import Prompt

if TYPE_CHECKING:  # loads duckdb
    from tarloom.read.columns.values import Value

PROMPT: Final = "prompt"
_NO_PROMPT = "no_prompt: nothing is left of the template"


@dataclass(frozen=True, kw_only=True)
class RowRecipe:
    """All that is done to rows. It travels to where they are."""

    key_col: str | None
    columns: pa.Schema
    """Of the prompt table."""
    joins: tuple[Join, ...]
    values: "tuple[Value, ...]"
    prompt: Prompt

    @property
    def schema(self) -> pa.Schema:
        """Of the finished rows."""
        fields = [*self.columns, *(field for join in self.joins for field in join.columns)]
        fields += [pa.field(value.name, value.type) for value in self.values]
        kept = [field for field in fields if field.name != PROMPT]
        texts = [pa.field(name, pa.string()) for name in (KEY, PROMPT, ERROR)]
        return pa.schema([texts[0], *kept, *texts[1:]])

    def keyed(self, table: pa.Table) -> pa.Table:
        """Rows as they were read, with `__key__`."""
        return table.append_column(KEY, self.keys(table))

    def keys(self, table: pa.Table) -> Array:
        """Null where a row that could be read gives none; one that could not is known by its number."""
        numbers = [row_key(number) for number in table.column(ROW).to_numpy()]
        if self.key_col is None:
            return pa.array(numbers, pa.string())
        texts = as_text(table.column(self.key_col)).to_pylist()
        bad = table.column(ERROR).is_valid().to_pylist()
        known = zip(numbers, texts, bad, strict=True)
        return pa.array([number if lost else cleaned_key(text) for number, text, lost in known], pa.string())

    def finished(self, table: pa.Table) -> pa.Table:
        """Joined rows with their derived columns and prompts, and `__row__` last."""
        for value in self.values:
            column, reasons = value.of(table)
            table = table.append_column(value.name, column)
            table = with_errors(table, {place: f"bad_value: {value.name}: {why}" for place, why in reasons.items()})
        filled = self._prompts(table)
        empty = {place: _NO_PROMPT for place, text in enumerate(filled) if not text.strip()}
        table = with_errors(table, empty)
        prompts: Any = pc.if_else(
            table.column(ERROR).is_valid(), pa.scalar(None, pa.string()), pa.array(filled, pa.string())
        )
        if PROMPT in table.column_names:
            table = table.drop_columns([PROMPT])
        return table.append_column(PROMPT, prompts).select([*self.schema.names, ROW])

    def _prompts(self, table: pa.Table) -> list[str]:
        names = list(self.prompt.columns)
        rows = zip(*times_as_text(table.select(names)).to_pydict().values(), strict=True)
        return [self.prompt.filled(dict(zip(names, values, strict=True))) for values in rows]
