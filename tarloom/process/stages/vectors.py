"""Vectors of a column, as stages see them that reckon with what a stage before them found."""

from typing import Any

import numpy as np
import pyarrow as pa

from tarloom.errors import UsageError

NO_EMBEDDING = "no_embedding"
"""The row has no vector: what was to be embedded could not be."""


def vectors_of(column: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Which rows have a vector, bool of shape (rows,), and those vectors, float64 of shape (such rows, dim).

    Raises UsageError where the column holds something else.
    """
    kind = column.type
    if not pa.types.is_fixed_size_list(kind) or not pa.types.is_floating(kind.value_type):
        raise UsageError(f"{name}: a column of {kind}, not of vectors; name one such as clip.embedding")
    present = np.asarray(column.is_valid())
    vectors = np.asarray(column.drop_null().flatten()).astype(np.float64)
    return present, vectors.reshape(int(present.sum()), kind.list_size)


def row_products(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The scalar product of each row; not by a matrix product, whose last bits change with the number of rows."""
    return np.asarray((one * other).sum(axis=1))
