"""A folder of pictures as a source: every picture at any depth, in the order of the names, with what lies beside it.

    photos/cat.jpg   the picture; its key is "photos/cat"
    photos/cat.txt   its caption
    photos/cat.cls   its class
    photos/cat.json  an object whose fields are added to the sample's json; its caption is the picture's where there is
                     no .txt, but others of the folder have one

A dot in a key is replaced by "_", since readers split member names at the first dot.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property

import pyarrow as pa

from tarloom.create.sources.columns import KEY
from tarloom.create.sources.inputs import InputFile
from tarloom.errors import UsageError
from tarloom.format.storage import Storage

PICTURES = frozenset({"jpg", "jpeg", "jpe", "png", "webp", "gif", "bmp", "tif", "tiff", "avif"})
BESIDE = ("txt", "cls", "json")
BATCH_ROWS = 8192


def beside_column(extension: str) -> str:
    """The column of a source's table that names the file beside the picture, null where there is none."""
    return f"beside:{extension}"


class PictureFolder:
    """Rows are pictures: `row:key` and `url` (the path in the folder) and the files beside them."""

    def __init__(self, files: Sequence[InputFile]) -> None:
        self.storage: Storage = files[0].storage
        self._files = files
        self._pictures = [file for file in files if file.extension in PICTURES]
        if not self._pictures:
            raise UsageError(f"source {self.storage.url}: no picture in it ({', '.join(sorted(PICTURES))})")

    def scan(self) -> tuple[int, pa.Schema]:
        """How many pictures there are, and the additional columns: `cls` where any picture has a class.

        Raises UsageError where two pictures would have one key.
        """
        names: dict[str, str] = {}
        for picture in self._pictures:
            name = picture.entry.name
            other = names.setdefault(picture_key(name), name)
            if other != name:
                raise UsageError(
                    f"{other} and {name} would both have the key {picture_key(name)!r}; rename one of them"
                )
        return len(names), pa.schema([("cls", pa.string())] if self._any_has("cls") else [])

    @property
    def has_captions(self) -> bool:
        """Whether any picture has a caption beside it."""
        return self._any_has("txt")

    def fingerprint(self) -> str:
        """A digest of the name, size and version of every picture and of what lies beside it."""
        columns = self._table.select(["url", *map(beside_column, BESIDE)]).itercolumns()
        used = {name for column in columns for name in column.to_pylist()}
        hasher = hashlib.sha256()
        for file in self._files:
            if file.entry.name in used:
                hasher.update(json.dumps([file.entry.name, file.entry.size, file.version]).encode())
        return f"sha256:{hasher.hexdigest()}"

    def tables(self, additional: pa.Schema, start: int) -> Iterator[pa.Table]:
        """The pictures from number `start`."""
        for first in range(start, self._table.num_rows, BATCH_ROWS):
            yield self._table.slice(first, BATCH_ROWS)

    @cached_property
    def _table(self) -> pa.Table:
        names = [file.entry.name for file in self._pictures]
        for name in names:
            if name != name.encode("utf-8", "replace").decode():
                raise UsageError(f"{self.storage.url}: the name {name!r} is not UTF-8; rename the file")
        columns: dict[str, list[str | None]] = {KEY: [picture_key(name) for name in names], "url": [*names]}
        for extension in BESIDE:
            found = {_stem(file.entry.name): file.entry.name for file in self._files if file.extension == extension}
            columns[beside_column(extension)] = [found.get(_stem(name)) for name in names]
        return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})

    def _any_has(self, extension: str) -> bool:
        column = self._table.column(beside_column(extension))
        return column.null_count < len(column)


def picture_key(name: str) -> str:
    """A picture's key: its path without the extension, dots replaced by "_"."""
    return _stem(name).replace(".", "_")


def _stem(name: str) -> str:
    return name.rpartition(".")[0]
