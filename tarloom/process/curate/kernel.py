"""Where SQL meets rows: every statement runs here, in one thread, over Arrow tables that are in memory.

The same tables give the same answer to the last bit, on whatever machine of whatever engine.
"""

from collections.abc import Mapping

import duckdb
import pyarrow as pa

from tarloom.errors import EngineError, UsageError
from tarloom.read.columns.evaluate import first_line
from tarloom.read.columns.sql import cursor


def answer(sql: str, tables: Mapping[str, pa.Table], *, what: str) -> pa.Table:
    """What the SQL says of these tables, with the numbers that parquet has.

    what: how messages begin. Raises UsageError for what cannot be said of these values, EngineError where they do not
    fit into memory.
    """
    try:
        with cursor() as database:
            for name, table in tables.items():
                database.register(name, table)
            found: pa.Table = database.sql(sql).to_arrow_table()
            return found
    except duckdb.Error as error:
        reason = first_line(error)
        if "Out of Memory" in reason:
            raise EngineError(f"{what}: {reason}; ask for fewer columns, or for more --partitions") from error
        raise UsageError(f"{what}: {reason}") from error


def plain(table: pa.Table, *, what: str) -> pa.Table:
    """The table with whole numbers of 64 bits for sums of such, and floating point for decimals.

    Raises UsageError where a number is too large for that.
    """
    try:
        return table.cast(pa.schema([(field.name, _plain_type(field.type)) for field in table.schema]))
    except pa.ArrowInvalid as error:
        raise UsageError(f"{what}: {error}; sum CAST(... AS DOUBLE) instead") from error


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if not pa.types.is_decimal(kind):
        return kind
    return pa.int64() if kind.scale == 0 else pa.float64()
