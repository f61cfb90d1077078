"""Bytes objects that are read into where they lie, before anybody has seen them: nothing is copied out of a buffer.

C code makes bytes in the same way: PyBytes_FromStringAndSize without data gives an object that may still be written to
(docs.python.org/3/c-api/bytes.html).
"""

import ctypes
from collections.abc import Sequence

import numpy as np

_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
_address = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyBytes_AsString", ctypes.pythonapi))


def unfilled(sizes: Sequence[int]) -> tuple[list[bytes], np.ndarray]:
    """Objects of these sizes, which hold whatever was in memory, and the address of each one's bytes: int64 of shape
    (sizes,). Whoever asks for them fills them before anything else is done with them."""
    objects = [_new(None, size) for size in sizes]
    return objects, np.fromiter(map(_address, objects), np.int64, len(objects))
