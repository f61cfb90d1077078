"""Arrow's types with others in the place of some, however deep these lie: in lists, structs, maps and dictionaries."""

from collections.abc import Callable, Container
from typing import Any

import pyarrow as pa

Kind = pa.DataType
_PLAIN = frozenset(
    kind.id for kind in (pa.bool_(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.binary())
)
"""What most columns are: nothing is in them, and they are no views."""


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
    if pa.types.is_large_list(kind):
        return pa.large_list(inside(kind.value_field))
    return pa.list_(inside(kind.value_field)) if pa.types.is_list(kind) else kind


def holds(kind: Any, wanted: Callable[[Any], bool]) -> bool:
    """Whether a wanted type is anywhere in a type."""
    return wanted(kind) or any(holds(kind.field(i).type, wanted) for i in range(kind.num_fields))


def as_read(table: pa.Table) -> pa.Table:
    """A table from a file, its columns in the types that we work with.

    A file may call a column's type by a name that some package has registered, and then code of that package makes the
    values: Ray Data's for Python objects unpickles them. So columns come in the types that they are stored in. And
    texts and bytes come in the place of their views, which some writers leave: Arrow cannot take rows of those.

    Raises pa.ArrowNotImplementedError for views of lists with such a name in them.
    """
    read = schema_as_read(table.schema)
    return table if read.equals(table.schema, check_metadata=True) else table.cast(read)


def schema_as_read(schema: pa.Schema) -> pa.Schema:
    """The schema of as_read's table. Raises as that does."""
    read = pa.schema([pa.field(field.name, _read(field.type), field.nullable) for field in schema])
    return read.with_metadata(schema.metadata) if schema.metadata else read


def _read(kind: Any) -> Any:
    return kind if kind.id in _PLAIN else retyped(kind, _is_read_otherwise, _read_instead)


def _is_read_otherwise(kind: Any) -> bool:
    if isinstance(kind, pa.BaseExtensionType) or pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return holds(kind, _is_registered)
    return pa.types.is_string_view(kind) or pa.types.is_binary_view(kind)


def _read_instead(kind: Any) -> Any:
    if isinstance(kind, pa.BaseExtensionType):
        return _read(kind.storage_type)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return pa.string() if pa.types.is_string_view(kind) else pa.binary()
    raise pa.ArrowNotImplementedError(f"{kind} is not read")  # Arrow makes no sound list of it


def _is_registered(kind: Any) -> bool:
    """Is it a package's type, or one of Arrow's own, such as a tensor, of such?"""
    if isinstance(kind, pa.ExtensionType):
        return True
    return isinstance(kind, pa.BaseExtensionType) and holds(kind.storage_type, _is_registered)


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
    """The columns, those named without dictionaries: as their values."""
    values = _each(schema, pa.types.is_dictionary, lambda kind: kind.value_type)
    return pa.schema([value if value.name in names else field for field, value in zip(schema, values, strict=True)])


def _each(schema: pa.Schema, wanted: Callable[[Any], bool], instead: Callable[[Any], Kind]) -> pa.Schema:
    return pa.schema([field.with_type(retyped(field.type, wanted, instead)) for field in schema])
