"""Columns that are made of others: one SQL expression over the columns of a row, as in duckdb.

    round(width / height, 2)

Like a condition it is compiled once and proven, travels as text, and must say the same of a row whenever it is asked.
"""

from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from tarloom.errors import UsageError
from tarloom.format.arrow_types import Array
from tarloom.read.columns.evaluate import first_line
from tarloom.read.columns.sql import TABLE, Names, check_cases, cursor, for_duckdb
from tarloom.read.columns.where import resolved


@dataclass(frozen=True, kw_only=True)
class Value:
    """A column that is made of others."""

    name: str
    sql: str
    """In which every column is one quoted name."""
    columns: tuple[str, ...]
    """All that it uses; one of the table's, if it uses none."""
    type: pa.DataType

    def of(self, table: pa.Table) -> tuple[Array, dict[int, str]]:
        """Its value in each row, and why there is none: by place, in duckdb's words."""
        try:
            return _asked(self.sql, table.select(list(self.columns)), self.type), {}
        except duckdb.Error as error:
            if table.num_rows == 1:
                return pa.array([None], self.type), {0: first_line(error)}
        half = table.num_rows // 2
        (first, errors), (second, more) = self.of(table.slice(0, half)), self.of(table.slice(half))
        return pa.concat_arrays([first, second]), errors | {half + place: reason for place, reason in more.items()}


def compile_value(name: str, sql: str, names: Names, schema: pa.Schema) -> Value:
    """Prove an expression and write it with resolved names. schema: of the rows. Raises UsageError."""
    sql, used = resolved(sql, names, kind="value", example="width * height")
    check_cases(used, what=names.what)
    columns = tuple(used) or (schema.names[0],)
    nulls = pa.table([pa.nulls(1, schema.field(column).type) for column in columns], names=list(columns))
    try:
        _asked(f"(SELECT count(*) FROM {TABLE} WHERE ({sql}) IS NULL)", nulls, None)  # no aggregate can stand there
        return Value(name=name, sql=sql, columns=columns, type=_asked(sql, nulls, None).type)
    except duckdb.Error as error:
        raise UsageError(f"{names.what}: {first_line(error)}") from error


def _asked(sql: str, table: pa.Table, kind: pa.DataType | None) -> Array:
    """Raises duckdb.Error."""
    with cursor() as database:
        database.register(TABLE, for_duckdb(table))
        answer: Any = database.sql(f"SELECT {sql} AS found FROM {TABLE}").to_arrow_table()
    found: Array = answer.column(0).combine_chunks()
    return found if kind is None else found.cast(kind)
