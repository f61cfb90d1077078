"""Start-up and memory tuning for processes of tarloom's own that only create shards: the command's and its workers'.

Never call it in a user's own process: it hides pandas from pyarrow and changes malloc.
"""

import ctypes
import sys
from importlib.abc import MetaPathFinder
from typing import Any

import pyarrow as pa

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's numbers for what mallopt sets."""
LARGEST_KEPT = 16 << 20
KEPT_AT_MOST = 64 << 20


def become_lean() -> None:
    """For the start of a process that only creates."""
    do_without_pandas()
    keep_freed_memory()


def do_without_pandas() -> None:
    """Let pyarrow believe that there is no pandas: it would import it, a quarter of a second of CPU in each process,
    only to ask whether what it is given is a Series. Nobody here has one to give."""
    if "pandas" in sys.modules:
        return
    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        pa.scalar(0)  # looks for it once, and remembers
    finally:
        sys.meta_path.remove(absent)


def keep_freed_memory() -> None:
    """Pictures are so large that glibc would give their memory back to the system, and get it anew for the next one
    page by page: a quarter of a millisecond of CPU each. Other C libraries are left as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, KEPT_AT_MOST)


class _Absent(MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name == "pandas":
            raise ImportError("not needed here", name=name)
