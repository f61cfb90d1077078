"""A row on its way: as the source has it, as it was fetched, and what became of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import pyarrow as pa

from tarloom.create.sources.columns import ERROR, HASH, KEY, error_of
from tarloom.create.sources.folder import BESIDE, beside_column
from tarloom.create.texts import times_as_text
from tarloom.errors import FetchError

KEY_DIGITS = 9


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the source."""

    key: str
    url: str | None
    """For a picture in a folder: its path in it."""
    columns: Mapping[str, Any]
    """What the source says about it by name of the metadata's column, url and caption included; times as text."""
    beside: Mapping[str, str]
    """Files that lie beside the picture, by extension."""
    expected_hash: str | None = None
    """What the list says of the bytes, in lower case; null where nothing is to be verified."""
    error: FetchError | None = None
    """Why the row fails before anything is fetched: the list says so."""


@dataclass(frozen=True, kw_only=True)
class FetchedBytes:
    """The picture's bytes and, from a folder, what lay beside it."""

    data: bytes
    columns: Mapping[str, str] = field(default_factory=dict)
    """Values for metadata columns."""
    members: Mapping[str, bytes] = field(default_factory=dict)
    """Further members of the sample, by extension."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the sample's json."""
    key: str | None = None
    """The key that its bytes give, where keys are made from content."""


@dataclass(frozen=True, kw_only=True)
class EncodedPicture:
    """An encoded picture and the sizes in pixels of what came out and of what went in, both as one sees them."""

    data: bytes
    width: int | None
    """Sizes are null where nothing was decoded."""
    height: int | None
    original_width: int | None
    original_height: int | None
    exif: str | None
    """EXIF tags of the input by name, as a JSON object; null where they are not wanted."""


class Fetcher(Protocol):
    """Gets the bytes of rows, many at once. An asynchronous context manager."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *failure: object) -> None: ...

    async def fetch(self, row: Row) -> FetchedBytes:
        """Raises FetchError."""
        ...


def row_key(number: int) -> str:
    """The key of row `number` of the source."""
    return f"{number:0{KEY_DIGITS}d}"


def rows_of(table: pa.Table) -> Iterator[Row]:
    """The rows of a shard's table, which has their keys."""
    beside = {beside_column(extension): extension for extension in BESIDE}
    for batch in times_as_text(table).to_batches(max_chunksize=1024):
        for values in batch.to_pylist():
            found = {beside[name]: values.pop(name) for name in beside if name in values}
            yield Row(
                key=values.pop(KEY),
                url=values["url"],
                expected_hash=values.pop(HASH, None),
                error=error_of(values.pop(ERROR, None)),
                columns=values,
                beside={extension: name for extension, name in found.items() if name is not None},
            )
