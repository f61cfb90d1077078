"""Captions as JSON: a schema that the model's answers must fit, and the columns that its properties become."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from tarloom.errors import UsageError
from tarloom.process.caption.prompts import NAMED
from tarloom.process.models import file_text

_PLAIN: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
}


@dataclass(frozen=True, kw_only=True)
class Structure:
    """A JSON schema of an object. Raises UsageError where it is none."""

    text: str
    """The schema itself, as JSON."""

    @cached_property
    def schema(self) -> dict[str, Any]:
        """Raises UsageError."""
        try:
            schema = json.loads(self.text)
        except ValueError as error:
            raise self._wrong(f"not JSON: {error}") from error
        if not isinstance(schema, dict) or schema.get("type") != "object" or not schema.get("properties"):
            raise self._wrong('it must be of {"type": "object"} and have "properties": they become columns')
        return schema

    @cached_property
    def columns(self) -> dict[str, pa.DataType]:
        """One a property. What has no type that a column can have is kept as JSON. Raises UsageError."""
        return {name: _type(kind) or pa.string() for name, kind in self.schema["properties"].items()}

    def check(self) -> None:
        """Raises UsageError."""
        assert self._validator is not None

    def read(self, text: str) -> dict[str, Any] | None:
        """The values of an answer's properties, null where it has none; None for an answer that does not fit."""
        try:
            said = json.loads(text)
            if not self._validator.is_valid(said):
                return None
            return {name: self._value(name, said.get(name)) for name in self.columns}
        except (ValueError, TypeError, OverflowError, RecursionError):
            return None

    def _value(self, name: str, value: Any) -> Any:
        """As the column takes it. Raises ValueError for a number that no column can hold, or half a character."""
        if value is not None and _type(self.schema["properties"][name]) is None:
            value = json.dumps(value, ensure_ascii=False)
        pa.scalar(value, self.columns[name])
        return value

    @cached_property
    def _validator(self) -> Any:
        import jsonschema  # type: ignore[import-untyped] # takes long to load, and few captions have a schema

        kind = jsonschema.validators.validator_for(self.schema)
        try:
            kind.check_schema(self.schema)
        except jsonschema.SchemaError as error:
            raise self._wrong(error.message) from error
        self._resolve_references()
        return kind(self.schema)

    def _resolve_references(self) -> None:
        """Raises UsageError for one that leads nowhere within the schema: nothing is fetched for it."""
        import referencing.exceptions
        import referencing.jsonschema
        from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]

        draft = referencing.jsonschema.DRAFT202012
        resource = referencing.Resource.from_contents(self.schema, default_specification=draft)
        resolver = REGISTRY.with_resource(resource.id() or "", resource).resolver(resource.id() or "")
        for reference, base in _references(resource, resolver):
            try:
                base.lookup(reference)
            except referencing.exceptions.Unresolvable as error:
                raise self._wrong(f"its reference {reference!r} leads nowhere") from error

    def _wrong(self, why: str) -> UsageError:
        return wrong_schema(self.text, why)


def wrong_schema(text: str, why: str) -> UsageError:
    return UsageError(f"JSON schema {text[:60]!r}: {why}")


def inlined(given: str) -> str:
    """SCHEMA or NAME=SCHEMA with the schema itself in place of its file. Raises UsageError."""
    named = NAMED.fullmatch(given)
    return file_text(given) if named is None else f"{named[1]}={file_text(named[2])}"


def schemas_by_prompt(given: Sequence[str], names: Sequence[str | None]) -> dict[str | None, Structure]:
    """Which prompt's answers must fit which schema: SCHEMA where there is one prompt, else NAME=SCHEMA.

    Raises UsageError.
    """
    found: dict[str | None, Structure] = {}
    for text in given:
        named = NAMED.fullmatch(text)
        name = names[0] if named is None and len(names) == 1 else named[1] if named is not None else None
        if name not in names or name in found:
            known = ", ".join(map(str, names))
            raise UsageError(
                f"JSON schema {text[:60]!r}: of several prompts ({known}), write NAME=SCHEMA once for each"
            )
        found[name] = Structure(text=text if named is None else named[2])
        found[name].check()
    return found


def _references(resource: Any, resolver: Any) -> Iterator[tuple[str, Any]]:
    """All of a schema and those within it, each with what knows its base; data, such as of `const`, has none."""
    schema = resource.contents
    if isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
        yield schema["$ref"], resolver
    for inner in resource.subresources():
        yield from _references(inner, resolver.in_subresource(inner))


def _type(kind: Any) -> pa.DataType | None:
    """What a column of such values is; None if no column could hold all that the schema allows."""
    if not isinstance(kind, dict):
        return None
    named = kind.get("type")
    if isinstance(named, list):
        named = next((n for n in named if n != "null"), None) if len([n for n in named if n != "null"]) == 1 else None
    if named == "array":
        items = _type(kind.get("items"))
        return None if items is None else pa.list_(items)
    if named == "object":
        fields = {name: _type(inner) for name, inner in kind.get("properties", {}).items()}
        whole = {name: inner for name, inner in fields.items() if inner is not None}
        return pa.struct(whole) if whole and len(whole) == len(fields) else None
    values = kind.get("enum")
    if named is None and values and all(isinstance(value, str) for value in values):
        return pa.string()
    return _PLAIN.get(named) if isinstance(named, str) else None
