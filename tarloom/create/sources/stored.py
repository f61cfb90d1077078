"""URLs of a list that are files: on this machine or in an object store, below places that the user named.

Whoever writes a list decides what is read, so no file is one unless its place was allowed: `/data/pictures`,
`s3://bucket/pictures`. What points out of such a place, by ".." or a symbolic link, is not in it.
"""

import json
import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from tarloom.create.rows import FetchedBytes, Fetcher, Row
from tarloom.create.sources.file_reads import FileReads
from tarloom.errors import FetchError, StorageError, UsageError
from tarloom.format.layout import ABSENT_PLACES
from tarloom.format.storage import LocalStorage, Storage, open_storage

READS_AT_ONCE = 64
"""Of an object store; each is mostly waiting."""
WEB = ("http://", "https://")
FILE = "file://"
HERE = "localhost"


class StoredFetcher:
    """Reads the rows whose URLs are files, in threads; the others are the web's."""

    def __init__(
        self,
        web: Fetcher,
        places: Sequence[str],
        *,
        max_bytes: int,
        room: Callable[[], Awaitable[object]],
        absent: Collection[str] = (),
    ) -> None:
        """room: awaited before a file is handed on and the next one read. absent: places that were never there."""
        self._web = web
        self._absent = absent
        self._places = open_places(places)
        self._reads = FileReads(READS_AT_ONCE, max_bytes, room)

    async def __aenter__(self) -> Self:
        await self._web.__aenter__()
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._reads.close()
        await self._web.__aexit__(*failure)

    async def fetch(self, row: Row) -> FetchedBytes:
        """The file's bytes. Raises FetchError scheme_refused, unreadable, too_large or empty_body, or what the web's
        does; StorageError."""
        url = (row.url or "").strip()
        if not url or url.lower().startswith(WEB):
            return await self._web.fetch(row)
        return FetchedBytes(data=await self._reads.run(partial(self._read, url)))

    def _read(self, url: str) -> bytes:
        place, name = self._found(url)
        try:
            data = self._reads.read(place, name)
        except StorageError as error:
            if place.url not in self._absent:
                raise
            raise FetchError("unreadable", "the file's place is not there") from error
        if not data:
            raise FetchError("empty_body", "the file has no bytes")
        return data

    def _found(self, url: str) -> tuple[Storage, str]:
        """The allowed place that the file is in, and its name there."""
        path = _local_path(url, self._places)
        for place in self._places:
            name = _below(place, url, path)
            if name:
                return place, name
        raise FetchError("scheme_refused", "neither http(s) nor a file below a place of --allow-storage")


def open_places(places: Sequence[str]) -> list[Storage]:
    """The places that --allow-storage names. Raises UsageError for what is none."""
    try:
        return [open_storage(place) for place in places]
    except UsageError as error:
        raise UsageError(f"allow_storage: {error}") from error


def absent_places(places: Sequence[str], output: Storage) -> tuple[str, ...]:
    """Of several places those that were not there, but others were, when the output was first worked on.

    Noted in the output, since one that was there, and is lost when the run goes on, is to come back.
    """
    if len(places) < 2:
        return ()
    if output.head(ABSENT_PLACES) is None:
        absent = [place.url for place in open_places(places) if not _is_there(place)]
        if len(absent) == len(places):
            return ()
        output.write_new(ABSENT_PLACES, json.dumps(absent).encode())
    return tuple(json.loads(output.read(ABSENT_PLACES)))


def _is_there(place: Storage) -> bool:
    try:
        if isinstance(place, LocalStorage):
            place.check_is_there()
    except StorageError:
        return False
    return True


def _local_path(url: str, places: Sequence[Storage]) -> Path | None:
    """The file that a URL without a scheme, or with that of files, is; relative to the first local place."""
    is_url, name = _file_name(url)
    if "://" in url and not is_url:
        return None
    root = next((place.url for place in places if isinstance(place, LocalStorage)), "/")
    try:
        return Path(os.path.realpath(Path(root, name)))
    except (ValueError, OSError) as error:
        raise FetchError("bad_url", "not a valid path") from error


def _file_name(url: str) -> tuple[bool, str]:
    """Whether a URL is one of a file, and its path: without host and escapes (RFC 8089); else the text as it is."""
    if not url.lower().startswith(FILE):
        return False, url
    name = url[len(FILE) :]
    return True, unquote(name[len(HERE) :] if name.lower().startswith(f"{HERE}/") else name)


def _below(place: Storage, url: str, path: Path | None) -> str | None:
    """The file's name in this place; None where it is not in it."""
    if path is not None:
        root = Path(os.path.realpath(place.url)) if isinstance(place, LocalStorage) else None
        return str(path.relative_to(root)) if root is not None and path.is_relative_to(root) else None
    name = url.removeprefix(f"{place.url}/") if url.startswith(f"{place.url}/") else None
    return None if name is None or {".", ".."} & set(name.split("/")) else name
