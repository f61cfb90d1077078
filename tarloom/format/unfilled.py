"""Bytes objects that are read into where they lie, before anybody has seen them: nothing is copied out of a buffer.

C code makes bytes in the same way: PyBytes_FromStringAndSize without data gives an object that may still be written to
(docs.python.org/3/c-api/bytes.html).
"""

import ctypes
from collections.abc import Sequence
from functools import cache

import numpy as np

_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
_address = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyBytes_AsString", ctypes.pythonapi))
_BEHIND = _address(b"") - id(b"")
"""So far behind an object, which is where its id says, its bytes begin."""
_KEPT_BYTES = 24 << 20


def unfilled(sizes: Sequence[int]) -> tuple[list[bytes], np.ndarray]:
    """Objects of these sizes, which hold whatever was in memory, and the address of each one's bytes: int64 of shape
    (sizes,). Whoever asks for them fills them before anything else is done with them."""
    _keep_memory()
    objects = [_new(None, size) for size in sizes]
    return objects, np.fromiter(map(id, objects), np.int64, len(objects)) + _BEHIND


@cache
def _keep_memory() -> None:
    """Let the C library keep what is freed for what comes next: where the free end of its memory is larger than 128 KiB
    it gives it back to the system, whose fresh pages took a tenth of the time in which samples were read.

    Once it has freed a block of so many bytes, it is twice as many (mallopt(3), at M_MMAP_THRESHOLD). None is touched.
    """
    _new(None, _KEPT_BYTES)
