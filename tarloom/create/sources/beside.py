"""Bytes of pictures in a folder, and of the captions, classes and JSON beside them."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Self

from tarloom.create.rows import FetchedBytes, Row
from tarloom.create.sources.file_reads import FileReads
from tarloom.errors import FetchError
from tarloom.format.storage import Storage

READS_AT_ONCE = 16
DEEPEST = 64
"""Levels of nesting in the .json beside a picture."""


class FolderFetcher:
    """Reads pictures from a storage, in threads."""

    def __init__(self, storage: Storage, max_bytes: int, room: Callable[[], Awaitable[object]]) -> None:
        """room: awaited before a picture is handed on and the next one read."""
        self._storage = storage
        self._reads = FileReads(READS_AT_ONCE, max_bytes, room)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._reads.close()

    async def fetch(self, row: Row) -> FetchedBytes:
        """The picture and what lies beside it. Raises FetchError unreadable, too_large or bad_json; StorageError."""
        return await self._reads.run(partial(self._read_row, row))

    def _read_row(self, row: Row) -> FetchedBytes:
        assert row.url is not None, "a picture of a folder has a path"
        found = {extension: self._reads.read(self._storage, name) for extension, name in row.beside.items()}
        text = {extension: data.decode("utf-8-sig", "replace").strip() for extension, data in found.items()}
        fields = _fields(text["json"]) if "json" in text else {}
        caption = text.get("txt", _as_text(fields.get("caption")))
        columns = {"caption": caption, "cls": text.get("cls")}
        return FetchedBytes(
            data=self._reads.read(self._storage, row.url),
            columns={name: value for name, value in columns.items() if value is not None},
            members={"cls": text["cls"].encode()} if "cls" in text else {},
            fields=fields,
        )


def _fields(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FetchError("bad_json", "the .json beside the picture cannot be parsed") from error
    if not isinstance(found, dict):
        raise FetchError("bad_json", "the .json beside the picture is no object")
    if not _is_shallow(found):
        raise FetchError("bad_json", f"the .json beside the picture is nested more than {DEEPEST} deep")
    return found


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()  # JSON may hold the half of a character


def _is_shallow(value: Any) -> bool:
    """Whether JSON can be written again anywhere: how deep Python's encoder can go depends on who calls it."""
    level = [value]
    for _ in range(DEEPEST):
        nested = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list))]
        level = [part for parts in nested for part in parts]
    return not level
