"""Where the main program is no file: a notebook, a session, what came through stdin. Worker processes cannot import it.

Python has each of them run the main program's file for what it defines. Of a program that came through stdin it looks
for a file called "<stdin>"; of the others it runs none, and what they define is missing when it is asked for.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from typing import Any

from tarloom.errors import UsageError


@contextmanager
def no_main_is_looked_for() -> Iterator[None]:
    """Processes that are started inside do not look for a main program that is no file."""
    main = sys.modules["__main__"]
    if not _is_no_file() or not hasattr(main, "__file__"):
        yield
        return
    file, main.__file__ = main.__file__, None
    try:
        yield
    finally:
        main.__file__ = file


def check_sendable(thing: Any, instead: str) -> None:
    """Raises UsageError for what workers would look for in a main program that they cannot import.

    instead: what else can be done, in words.
    """
    if _is_no_file() and b"__main__" in bytes(ForkingPickler.dumps(thing)):
        raise UsageError(
            "workers are processes that cannot import what a notebook, a session or stdin defines; put your functions "
            f"and classes into a file, NAME.py, and import them from there, or {instead}"
        )


def _is_no_file() -> bool:
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    return getattr(main, "__spec__", None) is None and (file is None or not os.path.isfile(file))
