"""Between Arrow and Ray's own tensors: pictures go out as tensors, and vectors come back as lists.

`iter_batches` gives tensors as numpy arrays: pictures have the shape (height, width, 3).
"""

from typing import Any

import numpy as np
import pyarrow as pa

from tarloom.errors import UsageError, missing_extra
from tarloom.read.view import RGB

try:
    from ray.data.block import Block, BlockAccessor
    from ray.data.extensions import ArrowVariableShapedTensorType
except ImportError as error:
    raise missing_extra("ray", error) from error

CHANNELS = 3
_TENSOR: Any = ArrowVariableShapedTensorType(pa.uint8(), CHANNELS)


def tensor_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of batches with pictures as tensors."""
    return pa.schema([field.with_type(_TENSOR) if field.type == RGB else field for field in schema])


def with_tensors(batch: pa.RecordBatch) -> pa.Table:
    """The batch as a table, its pictures as tensors over the same bytes."""
    columns = [_tensors(column) if column.type == RGB else column for column in batch.columns]
    return pa.Table.from_arrays(columns, schema=tensor_schema(batch.schema))


def plain_table(block: Block) -> pa.Table:
    """A block of Ray as a table of the types that files have: vectors of one length are FixedSizeList, and texts that
    are dictionaries or views, in this block alone perhaps, are texts.

    Raises UsageError for tensors of another kind, such as pictures.
    """
    table = BlockAccessor.for_block(block).to_arrow()
    columns = [_plain(column, name) for name, column in zip(table.column_names, table.columns, strict=True)]
    return pa.table(columns, names=table.column_names)


def _plain(column: Any, name: str) -> Any:
    if not isinstance(column.type, pa.BaseExtensionType):
        return column.cast(_stored(column.type))
    shape: Any = getattr(column.type, "shape", ())
    stored: Any = column.type.storage_type
    if len(shape) != 1 or None in shape:
        raise UsageError(f"column {name} holds tensors ({column.type}); encode pictures, or drop it, before writing")
    if not len(column):  # as of a block that a filter empties: it may have no chunk
        return pa.array([], pa.list_(stored.value_type, shape[0]))
    rows: Any = np.concatenate([chunk.to_numpy(zero_copy_only=False) for chunk in column.chunks])
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), shape[0])


def _stored(kind: Any) -> Any:
    """The type by which values of a type are written, whatever block they come in."""
    if pa.types.is_dictionary(kind):
        return _stored(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(kind) else kind


def _tensors(pictures: Any) -> Any:
    """A picture that is missing is null, and in numpy an array of shape (0, 0, 3)."""
    rows, data = len(pictures), pictures.field("data").cast(pa.large_binary())
    sides = [pictures.field(side).fill_null(0).to_numpy() for side in ("height", "width")]
    shapes: Any = pa.array(np.stack([*sides, np.full(rows, CHANNELS)], axis=1).astype(np.int64).ravel())
    ends: Any = pa.array(np.arange(rows + 1, dtype=np.int32) * CHANNELS)
    _, offsets, pixels = data.buffers()
    values = pa.Array.from_buffers(pa.uint8(), pixels.size if pixels else 0, [None, pixels])
    flat = pa.Array.from_buffers(_TENSOR.storage_type[0].type, rows, [None, offsets], 0, data.offset, [values])
    shape = pa.ListArray.from_arrays(ends, shapes)
    storage = pa.StructArray.from_arrays([flat, shape], ["data", "shape"], mask=pictures.is_null())
    return _TENSOR.wrap_array(storage)
