"""One door to files, local or in an object store: list, read, byte ranges, commit.

A `Storage` is a folder (or bucket prefix); names in it are relative and use "/". A file appears under its name whole or
not at all, however its writer ends.

Storages are small and picklable: they travel to workers.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

from tarloom.errors import UsageError
from tarloom.format.storage_base import Entry, Storage
from tarloom.format.storage_local import TEMPORARY, LocalStorage
from tarloom.format.storage_object import REMOTE_SCHEMES, ObjectStorage

__all__ = ["TEMPORARY", "Entry", "LocalStorage", "ObjectStorage", "Storage", "open_storage", "split_location"]


def open_storage(location: str | Path) -> Storage:
    """The storage at a local folder (absent ones are made on the first write) or a URL such as s3://bucket/folder.

    Raises UsageError for a scheme that is not known.
    """
    text = os.fspath(location)
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme in ("", "file"):
        return LocalStorage(str(Path(text.removeprefix("file://")).expanduser().absolute()))
    if scheme in REMOTE_SCHEMES:
        return ObjectStorage(text.rstrip("/"))
    raise UsageError(f"{text}: unknown scheme {scheme!r}; use a local path or one of {', '.join(REMOTE_SCHEMES)}")


def split_location(location: str | Path) -> tuple[Storage, str]:
    """The storage of a file's folder, and the file's name in it."""
    folder, _, name = os.fspath(location).rpartition("/")
    return open_storage(folder or ("/" if os.fspath(location).startswith("/") else ".")), name
