"""Arrow's types with others in the place of some, however deep these lie: in lists, structs, maps and dictionaries."""

from collections.abc import Callable, Container
from typing import Any

import pyarrow as pa

Kind = pa.DataType


def retyped(kind: Any, wanted: Callable[[Any], bool], instead: Callable[[Any], Kind]) -> Any:
    """The type with another in the place of every wanted one."""

    def inside(field: "pa.Field[Any]") -> "pa.Field[Any]":
        return field.with_type(retyped(field.type, wanted, instead))

    if wanted(kind):
        return instead(kind)
    if pa.types.is_dictionary(kind):
        value = retyped(kind.value_type, wanted, instead)
        return kind if value == kind.value_type else value
    if pa.types.is_struct(kind):
        return pa.struct([inside(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(inside(kind.key_field), inside(kind.item_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(inside(kind.value_field), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(inside(kind.value_field))
    return pa.list_(inside(kind.value_field)) if pa.types.is_list(kind) else kind


def without_views(kind: Any) -> Any:
    """The type with texts and bytes themselves in the place of views, which some writers leave in parquet: Arrow cannot
    take rows of them. Views of lists stay: of them it can, and a list that it makes of one is not sound."""
    texts = retyped(kind, pa.types.is_string_view, lambda _: pa.string())
    return retyped(texts, pa.types.is_binary_view, lambda _: pa.binary())


def roomy(schema: pa.Schema) -> pa.Schema:
    """The columns with dictionaries of 32-bit indices.

    pandas writes categories with as few bits as those of one file need; a shard may hold rows of several.
    """
    return _each(schema, pa.types.is_dictionary, lambda kind: pa.dictionary(pa.int32(), kind.value_type, kind.ordered))


def unified(known: pa.Schema, found: pa.Schema) -> pa.Schema:
    """The columns of both, each of a type that holds the values of both. Raises pa.ArrowException where none does."""
    differ = {field.name for field in found if field.name in known.names and known.field(field.name).type != field.type}
    return pa.unify_schemas([_plain(known, differ), _plain(found, differ)], promote_options="permissive")


def _plain(schema: pa.Schema, names: Container[str]) -> pa.Schema:
    """The columns, those named without dictionaries and views: as their values."""
    values = _each(schema, pa.types.is_dictionary, lambda kind: kind.value_type)
    values = _each(values, pa.types.is_string_view, lambda _: pa.string())
    return pa.schema([value if value.name in names else field for field, value in zip(schema, values, strict=True)])


def _each(schema: pa.Schema, wanted: Callable[[Any], bool], instead: Callable[[Any], Kind]) -> pa.Schema:
    return pa.schema([field.with_type(retyped(field.type, wanted, instead)) for field in schema])
