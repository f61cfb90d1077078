"""A chunk as an Arrow batch of its view's schema."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tarloom.errors import UsageError
from tarloom.read.binary import joined_array
from tarloom.read.chunk import Chunk
from tarloom.read.pieces import Array
from tarloom.read.view import RGB, DecodeAs, View


def check_batches(view: View) -> None:
    """Raises UsageError where a member is decoded to what no batch can hold."""
    pil = next((member for member, form in view.decode if form == "pil"), None)
    if pil is not None:
        raise UsageError(f"{pil}: Pillow images exist in samples only; decode it to rgb, or iterate over the dataset")


def to_batch(chunk: Chunk, view: View) -> pa.RecordBatch:
    """The batch; members of 2 GiB and more are large_binary in it."""
    forms = view.decoded
    arrays = [chunk.keys, *(_array(values, forms.get(name)) for name, values in chunk.members.items())]
    arrays += chunk.columns.values()
    if view.on_error == "row":
        arrays.append(_error_texts(chunk))
    fields = [field.with_type(array.type) for field, array in zip(view.schema, arrays, strict=True)]
    return pa.record_batch(arrays, schema=pa.schema(fields))


def _array(values: Sequence[Any], form: DecodeAs | None) -> Array:
    if form is None:
        return joined_array(values)
    return _pictures(values) if form == "rgb" else pa.array(values, pa.string())


def _pictures(values: Sequence[np.ndarray | None]) -> Array:
    """Decoded pictures as an array of RGB."""
    shapes = np.array([(0, 0) if value is None else value.shape[:2] for value in values], np.int32).reshape(-1, 2)
    data = joined_array([memoryview(b"") if value is None else value.data.cast("B") for value in values])
    absent = pa.array([value is None for value in values], pa.bool_())
    height, width = (pa.array(np.ascontiguousarray(shapes[:, side])) for side in (0, 1))
    return pa.StructArray.from_arrays([height, width, data], fields=list(RGB), mask=absent)


def _error_texts(chunk: Chunk) -> Array:
    texts = [chunk.errors[row].text if row in chunk.errors else None for row in range(len(chunk))]
    return pa.array(texts, pa.string())
