"""Arrow's arrays as types (pyarrow's own are generic for the type checker only), and which values they have."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    Array = pa.Array[Any]
    ChunkedArray = pa.ChunkedArray[Any]
else:
    Array = pa.Array
    ChunkedArray = pa.ChunkedArray


def validity(present: np.ndarray) -> pa.Buffer | None:
    """The bits of an array by which it has these values, and null for the others. present: bool of shape (values,)."""
    return None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little").data)
