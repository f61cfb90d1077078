"""One door to files, local or in an object store: list, read, byte ranges, commit.

A `Storage` is a folder (or bucket prefix); names in it are relative and use "/". A file appears under its name whole or
not at all, however its writer ends.

Storages are small and picklable: they travel to workers.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

from tarloom.errors import UsageError
from tarloom.format.layout import TAR_SUFFIXES
from tarloom.format.storage.base import Entry, Storage, denied_is_absent, links_to_nothing
from tarloom.format.storage.local import LocalStorage
from tarloom.format.storage.objects import REMOTE_SCHEMES, ObjectStorage
from tarloom.format.storage.temporaries import TEMPORARY

__all__ = [
    "TEMPORARY",
    "Entry",
    "LocalStorage",
    "ObjectStorage",
    "Storage",
    "denied_is_absent",
    "links_to_nothing",
    "open_dataset_storage",
    "open_storage",
    "split_location",
]


def open_storage(location: str | Path) -> Storage:
    """The storage at a local folder (absent ones are made on the first write) or a URL such as s3://bucket/folder.

    Raises UsageError for a scheme that is not known, and for no location or bucket: a variable may not have been set.
    """
    text = os.fspath(location)
    if not text:
        raise UsageError("the path is empty; give a folder, '.' for this one")
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme in ("", "file"):
        return LocalStorage(str(_absolute(Path(text.removeprefix("file://")).expanduser())))
    if scheme in REMOTE_SCHEMES:
        if scheme != "memory" and not urlsplit(text).netloc:
            raise UsageError(f"{text}: names no bucket; write {scheme}://BUCKET/FOLDER")
        return ObjectStorage(text.rstrip("/"))
    raise UsageError(f"{text}: unknown scheme {scheme!r}; use a local path or one of {', '.join(REMOTE_SCHEMES)}")


def _absolute(folder: Path) -> Path:
    """Its address for whoever reads it, which Spark would change where it has "..", without a look at links."""
    return folder.resolve() if ".." in folder.parts else folder.absolute()


def open_dataset_storage(location: str | Path) -> tuple[Storage, str | None]:
    """The storage of a dataset's folder; and the tar's name in it, where the location is that of one tar.

    Raises UsageError for another file.
    """
    if os.fspath(location).endswith(TAR_SUFFIXES):
        return split_location(location)
    storage = open_storage(location)
    if isinstance(storage, LocalStorage) and os.path.isfile(storage.url):
        kinds = ", ".join(TAR_SUFFIXES)
        raise UsageError(
            f"{location}: is neither a folder nor a tar ({kinds}); give the shards' folder, or one of them"
        )
    return storage, None


def split_location(location: str | Path) -> tuple[Storage, str]:
    """The storage of a file's folder, and the file's name in it."""
    folder, _, name = os.fspath(location).rpartition("/")
    return open_storage(folder or ("/" if os.fspath(location).startswith("/") else ".")), name
