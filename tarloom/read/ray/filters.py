"""Ray's expressions as conditions of ours, where both say the same of every row: true, false or null.

    (col("width") >= 256) & col("caption.text").str.contains("dog")

becomes `("width" >= 256) AND contains("caption.text", 'dog')`. Ray evaluates with Arrow's functions, in which a NaN is
neither more nor less than anything, and is_in is never null; duckdb puts NaN above all numbers.
"""

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import missing_extra
from tarloom.read.columns.quoting import sql_name, sql_text

try:
    from ray.data.expressions import (
        AliasExpr,
        BinaryExpr,
        ColumnExpr,
        Expr,
        LiteralExpr,
        Operation,
        PyArrowComputeUDFExpr,
        UnaryExpr,
    )
except ImportError as error:
    raise missing_extra("ray", error) from error

_COMPARISONS = {
    Operation.EQ: "=",
    Operation.NE: "<>",
    Operation.GT: ">",
    Operation.GE: ">=",
    Operation.LT: "<",
    Operation.LE: "<=",
}
_MIRRORED = {
    Operation.GT: Operation.LT,
    Operation.GE: Operation.LE,
    Operation.LT: Operation.GT,
    Operation.LE: Operation.GE,
}
_ABOVE = (Operation.GT, Operation.GE)
_BOTH = {Operation.AND: "AND", Operation.OR: "OR"}
_MEMBERSHIP = {Operation.IN: "", Operation.NOT_IN: "NOT "}
_TESTS = {Operation.IS_NULL: "IS NULL", Operation.IS_NOT_NULL: "IS NOT NULL"}
_SEARCHES = {pc.starts_with: "starts_with", pc.ends_with: "ends_with", pc.match_substring: "contains"}
_INT64 = range(-(2**63), 2**63)


def as_condition(wanted: Expr, columns: pa.Schema) -> str | None:
    """SQL that says what the expression says; None where it uses other columns, or what we do not write."""
    if isinstance(wanted, AliasExpr):
        return as_condition(wanted.expr, columns)
    if isinstance(wanted, BinaryExpr):
        return _binary(wanted, columns)
    if isinstance(wanted, UnaryExpr):
        return _unary(wanted, columns)
    if isinstance(wanted, PyArrowComputeUDFExpr):
        return _search(wanted, columns)
    if isinstance(wanted, ColumnExpr) and _is(wanted, pa.types.is_boolean, columns):
        return _name(wanted)
    return None


def columns_of(wanted: object) -> Iterator[str]:
    """Names of the columns that an expression uses."""
    if isinstance(wanted, ColumnExpr):
        yield wanted.name
    elif isinstance(wanted, Expr):
        yield from columns_of([getattr(wanted, field.name) for field in fields(wanted)])
    elif isinstance(wanted, dict):
        yield from columns_of(list(wanted.values()))
    elif isinstance(wanted, list | tuple):
        for part in wanted:
            yield from columns_of(part)


def _binary(wanted: BinaryExpr, columns: pa.Schema) -> str | None:
    if wanted.op in _BOTH:
        sides = [as_condition(side, columns) for side in (wanted.left, wanted.right)]
        return None if None in sides else f"({sides[0]}) {_BOTH[wanted.op]} ({sides[1]})"
    if isinstance(wanted.left, LiteralExpr):
        return _comparison(wanted.right, _MIRRORED.get(wanted.op, wanted.op), wanted.left, columns)
    if wanted.op in _MEMBERSHIP:
        return _membership(wanted, columns)
    return _comparison(wanted.left, wanted.op, wanted.right, columns)


def _unary(wanted: UnaryExpr, columns: pa.Schema) -> str | None:
    if wanted.op == Operation.NOT:
        inner = as_condition(wanted.operand, columns)
        return None if inner is None else f"NOT ({inner})"
    known = isinstance(wanted.operand, ColumnExpr) and wanted.operand.name in columns.names
    return f"{_name(wanted.operand)} {_TESTS[wanted.op]}" if known and wanted.op in _TESTS else None


def _comparison(column: Expr, op: Operation, value: Expr, columns: pa.Schema) -> str | None:
    if op not in _COMPARISONS or not isinstance(value, LiteralExpr):
        return None
    literal = _literal(column, value.value, columns)
    if literal is None:
        return None
    condition = f"{_name(column)} {_COMPARISONS[op]} {literal}"
    nan_too = op in _ABOVE and _is(column, pa.types.is_floating, columns)
    return f"({condition} AND NOT isnan({_name(column)}))" if nan_too else condition


def _membership(wanted: BinaryExpr, columns: pa.Schema) -> str | None:
    """Not of broken numbers: Arrow's is_in rounds them to the column's type, which its comparisons do not."""
    if not isinstance(wanted.right, LiteralExpr) or not isinstance(wanted.right.value, list):
        return None
    if _is(wanted.left, pa.types.is_floating, columns) or float in map(type, wanted.right.value):
        return None
    literals = [_literal(wanted.left, value, columns) for value in wanted.right.value]
    known = [literal for literal in literals if literal is not None]
    if not known or len(known) < len(literals):
        return None
    return f"{_MEMBERSHIP[wanted.op]}coalesce({_name(wanted.left)} IN ({', '.join(known)}), FALSE)"


def _search(wanted: PyArrowComputeUDFExpr, columns: pa.Schema) -> str | None:
    function, patterns = _SEARCHES.get(wanted.pc_func), wanted.pc_positional
    if function is None or len(wanted.args) != 1 or len(patterns) != 1 or wanted.pc_kwargs:
        return None
    literal = _literal(wanted.args[0], patterns[0], columns)
    return None if literal is None else f"{function}({_name(wanted.args[0])}, {literal})"


def _literal(column: Expr, value: Any, columns: pa.Schema) -> str | None:
    """A value that may be compared with this column: text with text, numbers with numbers, truth with truth."""
    if isinstance(value, bool):
        return str(value).upper() if _is(column, pa.types.is_boolean, columns) else None
    if isinstance(value, int | float):
        return _number(value) if _is(column, _is_number, columns) else None
    if isinstance(value, str) and "\0" not in value and _is(column, pa.types.is_string, columns):
        return sql_text(value)
    return None


def _number(value: int | float) -> str | None:
    """The exponent makes a DOUBLE of it, as it is in Arrow, and not a decimal number."""
    if isinstance(value, int):
        return str(value) if value in _INT64 else None
    return f"{value:.17e}" if math.isfinite(value) else None


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is(column: Expr, of_kind: Any, columns: pa.Schema) -> bool:
    known = isinstance(column, ColumnExpr) and column.name in columns.names
    return known and bool(of_kind(columns.field(column.name).type))


def _name(column: Expr) -> str:
    return sql_name(column.name)
