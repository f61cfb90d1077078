"""Arrow's types with others in the place of some, however deep these lie: in lists, structs, maps and dictionaries."""

from collections.abc import Callable, Container
from typing import Any

import pyarrow as pa

Kind = pa.DataType
_LISTS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Any]], ...] = (
    (pa.types.is_list, pa.list_),
    (pa.types.is_large_list, pa.large_list),
    (pa.types.is_list_view, pa.list_view),
    (pa.types.is_large_list_view, pa.large_list_view),
)


def retyped(kind: Any, wanted: Callable[[Any], bool], instead: Callable[[Any], Kind]) -> Any:
    """The type with another in the place of every wanted one."""

    def inside(field: "pa.Field[Any]") -> "pa.Field[Any]":
        return pa.field(field.name, retyped(field.type, wanted, instead), field.nullable)

    if wanted(kind):
        return instead(kind)
    if pa.types.is_dictionary(kind):
        value = retyped(kind.value_type, wanted, instead)
        return kind if value == kind.value_type else value
    if pa.types.is_struct(kind):
        return pa.struct([inside(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(inside(kind.key_field), inside(kind.item_field), kind.keys_sorted)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(inside(kind.value_field), kind.list_size)
    make = next((make for is_such, make in _LISTS if is_such(kind)), None)
    return kind if make is None else make(inside(kind.value_field))


def as_stored(table: pa.Table) -> pa.Table:
    """A table from a file, its columns in the types that they are stored in.

    A file may call a column's type by a name that some package has registered, and then code of that package makes the
    values: Ray Data's for Python objects unpickles them. So no such type, and no such name, comes out of a file.
    """
    return table.cast(stored_schema(table.schema))


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of as_stored's table."""
    stored = pa.schema([pa.field(field.name, _stored(field.type), field.nullable) for field in schema])
    return stored.with_metadata(schema.metadata) if schema.metadata else stored


def _stored(kind: Any) -> Any:
    return retyped(kind, _is_registered, lambda found: _stored(found.storage_type))


def _is_registered(kind: Any) -> bool:
    """Is it of a package, or one of Arrow's own, such as a tensor, that holds one?"""
    if isinstance(kind, pa.ExtensionType):
        return True
    return isinstance(kind, pa.BaseExtensionType) and _stored(kind.storage_type) != kind.storage_type


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
