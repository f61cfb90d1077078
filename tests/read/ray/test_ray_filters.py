"""A Ray expression that is translated says the same of every row as Ray does; what would not is left alone."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("ray")

from ray.data._internal.planner.plan_expression.expression_evaluator import eval_expr
from ray.data.datatype import DataType
from ray.data.expressions import col, lit, udf

from tarloom.read.columns.evaluate import passing_rows
from tarloom.read.columns.sql import Names
from tarloom.read.columns.where import compile_where
from tarloom.read.ray.filters import as_condition
from tarloom.read.view import Column

NAN = float("nan")
TABLE = pa.table(
    {
        "__key__": ["a", "b", "c", "d", "e"],
        "width": pa.array([1, 2, None, -5, 2**20], pa.int64()),
        "small": pa.array([1, 200, None, 0, 7], pa.uint8()),
        "clip.score": pa.array([0.3, NAN, None, float("inf"), -0.0], pa.float32()),
        'a "quoted" name': pa.array(["it's", "", None, 'x"y', "größe %_"], pa.string()),
        "flag": pa.array([True, False, None, True, False]),
        "when": pa.array([datetime.datetime(2026, 1, 1)] * 5),
    }
)
NUMBERS = [0, 1, 2, -5, 200, 2**20, 0.3, 1.5, -0.0, 1e300]
TEXTS = ["", "a", "it's", 'x"y', "ö", "%", "'; DROP TABLE samples; --"]


def rows_by_ray(expression) -> list[int]:
    mask = eval_expr(expression, TABLE)
    return [row for row, kept in enumerate(mask.to_pylist()) if kept]


def rows_by_us(sql: str) -> list[int]:
    columns = {f.name: Column(name=f.name, stage=None, field=f.name, type=f.type) for f in TABLE.schema}
    del columns["__key__"]
    where = compile_where(sql, Names(what="test", columns=columns, members=()))
    used = TABLE.select(["__key__", *(column.name for column in where.columns)])
    return passing_rows(where, used, place="test").tolist()


numbers, texts = st.sampled_from(NUMBERS), st.sampled_from(TEXTS)
number_columns = st.sampled_from(["width", "small", "clip.score"]).map(col)
text_columns = st.sampled_from(["__key__", 'a "quoted" name']).map(col)
all_columns = st.sampled_from(TABLE.column_names).map(col)
COMPARISONS = ["__gt__", "__ge__", "__lt__", "__le__", "__eq__", "__ne__"]


def compared(column, name, value):
    return getattr(column, name)(value)


leaves = st.one_of(
    st.builds(compared, number_columns, st.sampled_from(COMPARISONS), numbers),
    st.builds(compared, numbers.map(lit), st.sampled_from(COMPARISONS), number_columns),
    st.builds(compared, text_columns, st.sampled_from(COMPARISONS), texts),
    st.builds(lambda v: col("width").is_in(v), st.lists(st.sampled_from([0, 1, -5, 2**20]), min_size=1)),
    st.builds(lambda c, v: c.not_in(v), text_columns, st.lists(texts, min_size=1)),
    st.builds(lambda c, n, v: getattr(c.str, n)(v), text_columns, st.sampled_from(["starts_with", "ends_with"]), texts),
    st.builds(lambda c, v: c.str.contains(v), text_columns, texts),
    st.builds(lambda c: c.is_null(), all_columns),
    st.builds(lambda c: c.is_not_null(), all_columns),
    st.just(col("flag")),
    st.builds(compared, st.just(col("flag")), st.just("__eq__"), st.booleans()),
)
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(lambda a: ~a, inner),
    ),
    max_leaves=5,
)


@given(expressions)
def test_a_translated_expression_keeps_the_rows_that_ray_keeps(expression):
    sql = as_condition(expression, TABLE.schema)
    assert sql is not None
    assert rows_by_us(sql) == rows_by_ray(expression)


@udf(return_dtype=DataType.bool())
def anything(values: pa.Array) -> pa.Array:
    return pc.is_valid(values)


UNTRANSLATED = {
    "a function of the user": anything(col("width")),
    "arithmetic, which overflows and divides in another way": col("width") + 1 > 2,
    "a value that is no number": col("width") > NAN,
    "infinity": col("clip.score") < float("inf"),
    "a number that no column holds": col("width") > 2**63,
    "text against a number": col("width") == "1",
    "a number against text": col("__key__") == 1,
    "truth against a number": col("width") == True,  # noqa: E712
    "text with a NUL": col("__key__") == "a\0b",
    "a null in a list": col("width").is_in([1, None]),
    "a list of broken numbers": col("width").is_in([1.5]),
    "a list against broken numbers": col("clip.score").is_in([1]),
    "an empty list": col("width").is_in([]),
    "a time": col("when") > datetime.datetime(2025, 1, 1),
    "another column": col("jpg").is_null(),
    "two columns": col("width") > col("small"),
    "a pattern": col("__key__").str.match("a%"),
    "a search that ignores case": col("__key__").str.contains("A", ignore_case=True),
    "a number as a condition": col("width"),
    "a half that cannot be translated": (col("width") > 1) & (col("width") == "1"),
    "the opposite of what cannot be translated": ~(col("width") == "1"),
}


@pytest.mark.parametrize("what", UNTRANSLATED)
def test_what_would_not_be_the_same_is_left_to_ray(what):
    assert as_condition(UNTRANSLATED[what], TABLE.schema) is None


def test_a_float_stands_as_it_is_and_not_as_a_decimal():
    assert as_condition(col("clip.score") == 0.1, TABLE.schema) == '"clip.score" = 1.00000000000000006e-01'
    score = float(np.float32(0.3))
    sql = as_condition(col("clip.score") == score, TABLE.schema)
    assert rows_by_us(sql) == rows_by_ray(col("clip.score") == score) == [0]
