"""A chunk as an Arrow batch of its view's schema."""

from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa

from tarloom.errors import UsageError
from tarloom.format.arrow_types import Array
from tarloom.read.samples.binary import LARGEST_BINARY, joined_array
from tarloom.read.samples.chunk import Chunk
from tarloom.read.view import View


def check_batches(view: View) -> None:
    """Raises UsageError where a member is decoded to what no batch can hold."""
    pil = next((member for member, form in view.decode if form == "pil"), None)
    if pil is not None:
        raise UsageError(f"{pil}: Pillow images exist in samples only; decode it to rgb, or iterate over the dataset")


def to_batch(chunk: Chunk, view: View, *, as_views: bool = False) -> pa.RecordBatch:
    """The batch; members of 2 GiB and more are large_binary in it. as_views: smaller ones are binary_view."""
    schema = view.schema
    arrays = [chunk.keys]
    for name, values in chunk.members.items():
        array = _array(values, schema.field(name).type)
        arrays.append(_viewed(array) if as_views and name not in view.decoded else array)
    arrays += chunk.columns.values()
    if view.on_error == "row":
        arrays.append(_error_texts(chunk))
    fields = [field.with_type(array.type) for field, array in zip(schema, arrays, strict=True)]
    return pa.record_batch(arrays, schema=pa.schema(fields))


def _array(values: Sequence[Any] | Array, kind: pa.DataType) -> Array:
    if isinstance(values, pa.Array):
        return values
    return joined_array(values) if pa.types.is_binary(kind) else pa.array(values, kind)


def _viewed(array: Array) -> Array:
    """The same as binary_view, which copies no bytes; but one of more than a view can hold."""
    return array if array.nbytes > LARGEST_BINARY else cast(Array, array.cast(pa.binary_view()))


def _error_texts(chunk: Chunk) -> Array:
    texts = [chunk.errors[row].text if row in chunk.errors else None for row in range(len(chunk))]
    return pa.array(texts, pa.string())
