"""Keeps processes that only create from loading what they have no use for."""

import sys
from importlib.abc import MetaPathFinder
from typing import Any

import pyarrow as pa


def do_without_pandas() -> None:
    """Let pyarrow believe that there is no pandas: it would import it, a quarter of a second of CPU in each process,
    only to ask whether what it is given is a Series.

    For processes of our own: nobody there has a Series to give.
    """
    if "pandas" in sys.modules:
        return
    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        pa.scalar(0)  # looks for it once, and remembers
    finally:
        sys.meta_path.remove(absent)


class _Absent(MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name == "pandas":
            raise ImportError("not needed here", name=name)
