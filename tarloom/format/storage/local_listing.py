"""A listing of a folder on this machine and of all below it, while others may be at work there."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tarloom.format.storage.base import Entry
from tarloom.format.storage.local_errors import translated
from tarloom.format.storage.temporaries import TEMPORARY

Answer = TypeVar("Answer")


def files_below(
    root: str, prefix: str = "", *, private: bool = True, lost: Callable[[str], bool] = lambda name: False
) -> "Iterator[tuple[str, os.DirEntry[str]]]":
    """All files below a folder of `root`, with their names in it; with or without those in private folders.

    Links to nothing are left out, but those whose names are `lost`; so are links to where the way has already led, and
    pipes and devices: to open one may take forever.
    """
    stack = [_Folder(path=Path(root, prefix), prefix=f"{prefix}/" if prefix else "")]
    while stack:
        folder = stack.pop()
        with (
            translated(str(folder.path)),
            contextlib.suppress(FileNotFoundError),
            os.scandir(folder.path) as entries,
        ):
            for entry in entries:
                if _holds(entry.is_file):
                    if not entry.name.startswith(TEMPORARY):
                        yield folder.prefix + entry.name, entry
                elif (private or not entry.name.startswith(("_", "."))) and _holds(entry.is_dir):
                    stack += _below(folder, entry)
                elif entry.is_symlink() and not os.path.exists(entry) and lost(folder.prefix + entry.name):
                    yield folder.prefix + entry.name, entry


def entry_of(name: str, found: os.stat_result) -> Entry:
    return Entry(name=name, size=found.st_size, mtime_ns=found.st_mtime_ns)


def entries_of(name: str, found: "os.DirEntry[str]") -> tuple[Entry, ...]:
    """The file's entry; none where it is gone by now; of a link to nothing, one without a size and time."""
    try:
        return (entry_of(name, found.stat()),)
    except OSError as error:
        return _nothing_there(error, (Entry(name=name, size=0),) if found.is_symlink() else ())


def _holds(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError as error:
        return _nothing_there(error, False)


def _nothing_there(error: OSError, answer: Answer) -> Answer:
    """The answer about a link to nothing, or to itself, or what was removed meanwhile; other errors are raised."""
    if error.errno in (errno.ENOENT, errno.ELOOP):
        return answer
    raise error


@dataclass(frozen=True, kw_only=True)
class _Folder:
    """A folder on the way through a listing, and the folders from which links were followed to it."""

    path: Path
    prefix: str
    """Of the names of what lies in it."""
    left: tuple[Path, ...] = ()


def _below(folder: _Folder, entry: "os.DirEntry[str]") -> "tuple[_Folder, ...]":
    """The folder of this entry, unless the way has led there before."""
    path, left = Path(entry.path), folder.left
    if entry.is_symlink():
        left = (*left, folder.path.resolve())
        if any(step.is_relative_to(path.resolve()) for step in left):
            return ()
    return (_Folder(path=path, prefix=f"{folder.prefix}{entry.name}/", left=left),)
