"""Captions as JSON: schemas that are refused, columns that properties become, answers that fit or do not."""

import json

import pyarrow as pa
import pytest

from tarloom.errors import UsageError
from tarloom.process.caption.structured import Structure, inlined, schemas_by_prompt

SCHEMA = {
    "type": "object",
    "properties": {
        "objects": {"type": "array", "items": {"type": "string"}},
        "count": {"type": "integer", "minimum": 0},
        "share": {"type": ["number", "null"]},
        "indoors": {"type": "boolean"},
        "colour": {"enum": ["red", "blue"]},
        "place": {"type": "object", "properties": {"x": {"type": "integer"}}},
        "any": {},
    },
    "required": ["objects", "count"],
}
STRUCTURE = Structure(text=json.dumps(SCHEMA))


def test_properties_become_columns_of_their_types():
    assert STRUCTURE.columns == {
        "objects": pa.list_(pa.string()),
        "count": pa.int64(),
        "share": pa.float64(),
        "indoors": pa.bool_(),
        "colour": pa.string(),
        "place": pa.struct({"x": pa.int64()}),
        "any": pa.string(),
    }


def test_an_answer_that_fits_is_split():
    said = {"objects": ["a", "b"], "count": 2, "share": None, "colour": "red", "place": {"x": 1}, "any": [1, "é"]}
    values = STRUCTURE.read(json.dumps(said))
    assert values == {**said, "indoors": None, "any": '[1, "é"]'}
    for name, kind in STRUCTURE.columns.items():
        assert pa.array([values[name]], kind).to_pylist() == [values[name]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red circle",
        '{"objects": ["a"], "cou',
        '{"objects": ["a"]}',
        '{"objects": "a", "count": 1}',
        '{"objects": [], "count": -1}',
        '{"objects": [], "count": 99999999999999999999999}',
        '{"objects": [], "count": 1, "colour": "green"}',
        r'{"objects": ["half a character: \ud83d"], "count": 1}',
        r'{"objects": [], "count": 1, "any": ["half a character: \ud83d"]}',
        "[]",
        "null",
        "[" * 100_000,
    ],
)
def test_an_answer_that_does_not_fit_has_no_values(text):
    assert STRUCTURE.read(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("{}", "properties"),
        ('{"type": "array"}', "properties"),
        ('{"type": "object"}', "properties"),
        ('{"type": "object", "properties": {"a": {"type": "nothing"}}}', "nothing"),
        ('{"type": "object", "properties": {"a": {"$ref": "#/$defs/no"}}}', "#/\\$defs/no' leads nowhere"),
        ('{"type": "object", "properties": {"a": {"items": {"anyOf": [{"$ref": "#no"}]}}}}', "#no' leads nowhere"),
        ('{"type": "object", "properties": {"a": {"$ref": "http://nobody.invalid/a"}}}', "leads nowhere"),
    ],
)
def test_a_schema_without_columns_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        schemas_by_prompt([text], [None])


def test_references_within_a_schema_are_followed():
    text = '{"type": "object", "properties": {"a": {"$ref": "#/$defs/small"}}, "$defs": {"small": {"maximum": 3}}}'
    structure = schemas_by_prompt([text], [None])[None]
    assert structure.read('{"a": 3}') == {"a": "3"}
    assert structure.read('{"a": 4}') is None


def test_references_are_followed_from_the_schema_that_they_stand_in_and_data_holds_none():
    inner = {"$id": "http://x.example/b", "$defs": {"B": {"maximum": 3}}, "allOf": [{"$ref": "#/$defs/B"}]}
    data = {"const": {"$ref": "zzz"}, "default": {"$ref": "zzz"}, "examples": [{"$ref": "zzz"}]}
    properties = {"a": inner, "b": data, "c": {"enum": [{"$ref": "zzz"}]}, "$ref": {"type": "string"}}
    structure = schemas_by_prompt([json.dumps({"type": "object", "properties": properties})], [None])[None]
    assert structure.read('{"a": 3, "b": {"$ref": "zzz"}}') is not None
    assert structure.read('{"a": 4}') is None


def test_a_file_is_read_where_the_stage_is_made(tmp_path):
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    assert inlined(str(file)) == json.dumps(SCHEMA)
    assert inlined(f"tags={file}") == f"tags={json.dumps(SCHEMA)}"
    with pytest.raises(UsageError, match="cannot be read"):
        inlined(str(tmp_path / "none.json"))


def test_each_of_several_prompts_may_have_a_schema():
    text = json.dumps(SCHEMA)
    assert schemas_by_prompt([f"b={text}"], ["a", "b"]) == {"b": STRUCTURE}
    assert schemas_by_prompt([text], ["only"]) == {"only": STRUCTURE}
    for wrong in ([text], [f"c={text}"], [f"a={text}", f"a={text}"]):
        with pytest.raises(UsageError, match="once for each"):
            schemas_by_prompt(wrong, ["a", "b"])
