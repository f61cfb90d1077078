"""Whether files can be written to a storage, asked before a run begins."""

import contextlib
import os

from tarloom.errors import StorageError, UsageError
from tarloom.format.storage.base import Storage
from tarloom.format.storage.local import LocalStorage


def check_writable(storage: Storage) -> None:
    """Try to write, and leave no trace: the run may still turn out to be impossible."""
    folder, url = storage.local_path(""), storage.url
    if folder:  # where folders are missing they stay so: one made and removed here may be another run's by then
        storage = LocalStorage(str(next(there for there in (folder, *folder.parents) if os.path.lexists(there))))
    try:
        with contextlib.suppress(_NotKept), storage.create("trial"):
            raise _NotKept
    except StorageError as error:
        raise UsageError(f"output {url} cannot be written: {error}") from error


class _NotKept(Exception):
    """Ends a trial write before its file appears."""
