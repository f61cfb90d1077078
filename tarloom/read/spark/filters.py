"""Spark's filters as conditions of ours, where both say the same of every row: true, false or NULL."""

import math
from collections.abc import Collection

from tarloom.errors import missing_extra
from tarloom.read.columns.quoting import sql_name, sql_text

try:
    from pyspark.sql.datasource import (
        EqualNullSafe,
        EqualTo,
        Filter,
        GreaterThan,
        GreaterThanOrEqual,
        In,
        IsNotNull,
        IsNull,
        LessThan,
        LessThanOrEqual,
        Not,
        StringContains,
        StringEndsWith,
        StringStartsWith,
    )
except ImportError as error:
    raise missing_extra("spark", error) from error

_COMPARISONS = {
    EqualTo: "=",
    EqualNullSafe: "IS NOT DISTINCT FROM",
    GreaterThan: ">",
    GreaterThanOrEqual: ">=",
    LessThan: "<",
    LessThanOrEqual: "<=",
}
_SEARCHES = {StringStartsWith: "starts_with", StringEndsWith: "ends_with", StringContains: "contains"}
_TESTS = {IsNull: "IS NULL", IsNotNull: "IS NOT NULL"}


def as_condition(wanted: Filter, columns: Collection[str]) -> str | None:
    """SQL that says what the filter says; None where it uses other columns, or a value that we do not write.

    A name with a dot is one part of an attribute, and a field of a struct several: `clip.score` is no clip.score.
    """
    if isinstance(wanted, Not):
        inner = as_condition(wanted.child, columns)
        return None if inner is None else f"NOT ({inner})"
    name, *fields = wanted.attribute
    if fields or name not in columns:
        return None
    column, kind = sql_name(name), type(wanted)
    if kind in _TESTS:
        return f"{column} {_TESTS[kind]}"
    values = [_literal(value) for value in (wanted.value if isinstance(wanted, In) else [wanted.value])]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    if isinstance(wanted, In):
        return f"{column} IN ({', '.join(known)})"
    if kind in _SEARCHES:
        return f"{_SEARCHES[kind]}({column}, {known[0]})"
    return f"{column} {_COMPARISONS[kind]} {known[0]}" if kind in _COMPARISONS else None


def _literal(value: object) -> str | None:
    """Text, truth, whole and broken numbers. The exponent makes a DOUBLE of a number, as it is in Spark."""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value) if "e" in repr(value) else f"{value!r}e0"
    return sql_text(value) if isinstance(value, str) and "\0" not in value else None
