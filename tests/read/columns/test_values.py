"""Columns that are made of others by SQL over one row."""

import pyarrow as pa
import pytest

from tarloom.errors import UsageError
from tarloom.read.columns.sql import Names
from tarloom.read.columns.values import Value, compile_value
from tarloom.read.view import Column

ROWS = pa.table(
    {
        "width": pa.array([4, None, 9], pa.int32()),
        "clip.score": pa.array([0.5, 0.25, None], pa.float16()),
        "vector": pa.array([[1.0, 2.0], [3.0, 4.0], None], pa.list_(pa.float32(), 2)),
        "text": ["7", "x", None],
    }
)


def compiled(sql: str) -> Value:
    columns = {
        field.name: Column(name=field.name, stage=None, field=field.name, type=field.type) for field in ROWS.schema
    }
    return compile_value("made", sql, Names(what="derive made", columns=columns, members=()), ROWS.schema)


@pytest.mark.parametrize(
    ("sql", "values", "kind"),
    [
        ("width * 2", [8, None, 18], pa.int32()),
        ("Clip.Score > 0.3", [True, False, None], pa.bool_()),
        ("CASE WHEN width IS NULL THEN 'none' ELSE 'some' END", ["some", "none", "some"], pa.string()),
        ("vector[1]", [1.0, 3.0, None], pa.float32()),
        ("list_transform(vector, lambda x: x + 1)", [[2.0, 3.0], [4.0, 5.0], None], None),
        ("'é'", ["é"] * 3, pa.string()),
        ("TRY_CAST(text AS INTEGER)", [7, None, None], pa.int32()),
    ],
)
def test_each_row_has_its_value(sql, values, kind):
    value = compiled(sql)
    found, errors = value.of(ROWS)
    assert (found.to_pylist(), errors) == (values, {})
    assert found.type == value.type
    assert kind is None or value.type == kind


def test_what_cannot_be_reckoned_is_told_by_its_row():
    found, errors = compiled("CAST(text AS INTEGER) + width").of(pa.concat_tables([ROWS] * 3))
    assert found.to_pylist() == [11, None, None] * 3
    assert [*errors] == [1, 4, 7]
    assert all(reason.startswith("Conversion Error: Could not convert string 'x'") for reason in errors.values())


def test_no_rows_have_no_values():
    found, errors = compiled("width + 1").of(ROWS.slice(0, 0))
    assert (len(found), errors) == (0, {})


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("", "derive made: the value is empty; give one, such as: width * height"),
        ("height", "derive made: there is no column 'height'; use __key__, width"),
        ("count(*)", "derive made: "),
        ("unnest(vector)", "derive made: "),
        ("row_number() OVER ()", "derive made: a value on one row holds no window"),
        ("width; DROP TABLE samples", "derive made: "),
        ("now()", "derive made: now() does not always say the same"),
        ("read_text('/etc/passwd')", "derive made: "),
        ("width) FROM samples --", "derive made: "),
    ],
)
def test_what_is_no_value_of_one_row_is_refused(sql, message):
    with pytest.raises(UsageError) as told:
        compiled(sql)
    assert message in str(told.value)
