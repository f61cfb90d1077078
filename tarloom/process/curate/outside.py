"""Tables from elsewhere that are joined: read where they are needed, once in a process."""

import functools
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.create.sources.tables import find_table
from tarloom.errors import UsageError
from tarloom.process.curate.config import Join

ROW = "__row__"
KEPT = 8
"""Tables in a process, of all questions."""


@dataclass(frozen=True, kw_only=True)
class Outside:
    """A table, and how it is called in SQL."""

    number: int
    """Among those of a question."""
    what: str
    """How messages begin."""
    source: str
    version: str
    """Of what its files hold."""
    schema: pa.Schema
    """The columns that are read."""

    @property
    def table_name(self) -> str:
        """What SQL calls it."""
        return f"outside{self.number}"

    @property
    def place(self) -> str:
        """What SQL calls the number of a row in it, where it is joined."""
        return f"__row{self.number}__"

    def check_fits(self, column: str, ours: pa.DataType, what: str) -> None:
        """Raises UsageError unless a column can be compared with values of this type."""
        if column not in self.schema.names:
            raise UsageError(f"{self.what}: no column {column!r}; it has {', '.join(self.schema.names)}")
        theirs = self.schema.field(column).type
        if _kind(ours) != _kind(theirs):
            raise UsageError(f"{what} is {ours}, but {column} of {self.source} is {theirs}; join columns of one kind")

    def check_unique(self, columns: tuple[str, ...]) -> None:
        """Raises UsageError where two rows have the same values in these columns."""
        keys = self.table().select(list(columns)).drop_null()
        try:
            counts = keys.group_by(list(columns)).aggregate([([], "count_all")])
        except pa.ArrowNotImplementedError as error:  # lists and their like
            names = ", ".join(columns)
            raise UsageError(
                f"{self.what}: {names} cannot be proven to be different in every row ({error}); join by another "
                "column, or let rows multiply: --expand"
            ) from error
        doubled = counts.filter(pc.greater(counts.column("count_all"), pa.scalar(1)))
        if doubled.num_rows:
            one = ", ".join(f"{name} = {doubled.column(name)[0]}" for name in columns)
            raise UsageError(f"{self.what}: more than one row has {one}; remove them, or let rows multiply: --expand")

    def table(self) -> pa.Table:
        """Its rows with their numbers, `__row__`."""
        return _read(self.source, self.version, tuple(self.schema.names))


def find_outside(join: Join, number: int) -> Outside:
    """The table of a join. Raises UsageError where it cannot be read."""
    found = find_table(join.source)
    return Outside(
        number=number,
        what=f"join {join.source}",
        source=join.source,
        version=found.digest(),
        schema=found.schema,
    )


@functools.lru_cache(maxsize=KEPT)
def _read(source: str, version: str, columns: tuple[str, ...]) -> pa.Table:
    """Raises UsageError where it is another table by now."""
    found = find_table(source)
    if found.digest() != version:
        raise UsageError(f"join {source}: has changed meanwhile; leave it alone, and ask again")
    tables = [table.select([ROW, *columns]) for table in found.tables()]
    schema = pa.schema([pa.field(ROW, pa.int64()), *(found.schema.field(name) for name in columns)])
    return pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()


def _kind(kind: pa.DataType) -> str:
    """What can be compared without a second thought: whole numbers with such, text with text."""
    if pa.types.is_integer(kind):
        return "whole numbers"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)
