"""Samples on their way from one tar to another: read by byte ranges, and changed where that is asked for."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from tarloom.create.config import ImageOptions
from tarloom.create.keys import hashed_key
from tarloom.create.repack_rows import Group, Piece
from tarloom.create.rows import Picture
from tarloom.errors import ImageError
from tarloom.format.index import ShardIndex
from tarloom.format.layout import IMAGE_MEMBERS, tar_name

CHUNK_BYTES = 64 << 20
"""Members read at once. While these are written, the next ones are read: so much twice is held in memory."""
CHUNK_SAMPLES = 4096

Members = dict[str, bytes | memoryview]
"""A sample's files by extension, in the order of the extensions."""
Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What becomes of a sample."""

    members: Members
    picture: Picture | None = None
    """In the place of the old one; None where it stays as it is."""
    changed: bool = False
    """Whether it has other bytes."""
    digest: str | None = None
    """Of the picture as it came, where the metadata does not know it."""
    key: str | None = None
    """That the picture as it came gives, where keys are made from content."""
    error: ImageError | None = None


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """Changes samples as the options say."""

    images: ImageOptions
    process: Callable[[bytes, ImageOptions], Picture] | None
    """What is done to pictures, None for nothing."""
    digest: str | None
    """The kind of hash to know a picture by, None for none."""
    by_content: bool
    """Make keys from the pictures."""

    @property
    def works(self) -> bool:
        """Whether it does enough to be called in threads."""
        return self.process is not None or self.by_content

    def carry(self, members: Members, has_digest: bool) -> Carried:
        """has_digest: the metadata knows what the picture was when it was first fetched."""
        extension = picture_extension(members)
        if extension is None:
            return Carried(members=members)
        data = members[extension]
        digest = None if has_digest or self.digest is None else hashlib.new(self.digest, data).hexdigest()
        key = hashed_key(bytes(data)) if self.by_content else None
        if self.process is None:
            return Carried(members=members, digest=digest, key=key)
        try:
            picture = self.process(bytes(data), self.images)
        except ImageError as error:
            return Carried(members={}, error=error.alone())
        kept = {name: member for name, member in members.items() if name != extension}
        kept[self.images.encode_format] = picture.data
        changed = picture.data != data
        return Carried(members=dict(sorted(kept.items())), picture=picture, changed=changed, digest=digest, key=key)


def picture_extension(members: Members) -> str | None:
    """Which member is the sample's picture."""
    return next((extension for extension in IMAGE_MEMBERS if extension in members), None)


def read_piece(piece: Piece) -> Iterator[list[Members]]:
    """The samples of a piece in tar order, in lists of bounded size; the next is read while one is used."""
    index = piece.group.index
    yield from ahead(_read(piece.group, first, last) for first, last in _chunks(index, piece.first, piece.last))


def updated_json(data: bytes | memoryview, key: str, known: Mapping[str, Any], unknown: Mapping[str, Any]) -> bytes:
    """The json of a sample whose key or picture has changed: if a creation made it, it says what is so now.

    key: the sample's key so far; a json that does not say it is another's, and stays as it is. known: fields to set.
    unknown: fields to set where they are null.
    """
    text = bytes(data)
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.get("key") != key:
            return text
        changed = {name: value for name, value in known.items() if name in fields}
        changed |= {name: value for name, value in unknown.items() if name in fields and fields[name] is None}
        return json.dumps(fields | changed, ensure_ascii=False).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return text


def ahead(made: Iterator[Made]) -> Iterator[Made]:
    """The same, each made in a thread while the one before it is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        following = thread.submit(next, made, None)
        while (current := following.result()) is not None:
            following = thread.submit(next, made, None)
            yield current


def _chunks(index: ShardIndex, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Ranges of samples of at most CHUNK_BYTES together, or of one."""
    sizes = np.zeros(index.rows, np.int64)
    for extension in index.extensions:
        sizes += np.nan_to_num(index.sizes(extension).to_numpy(zero_copy_only=False)).astype(np.int64)
    ends = np.cumsum(sizes)
    while first < last:
        before = ends[first] - sizes[first]
        within = int(np.searchsorted(ends, before + CHUNK_BYTES, side="right"))
        end = max(first + 1, min(last, within, first + CHUNK_SAMPLES))
        yield first, end
        first = end


def _read(group: Group, first: int, last: int) -> list[Members]:
    wanted = _Ranges()
    for extension in group.index.extensions:
        offsets = group.index.offsets(extension).slice(first, last - first).to_pylist()
        sizes = group.index.sizes(extension).slice(first, last - first).to_pylist()
        for row, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
            if offset is not None and size is not None:
                wanted.add(row, extension, offset, size)
    found = group.storage.read_ranges(tar_name(group.index.shard), wanted.offsets, wanted.sizes)
    samples: list[Members] = [{} for _ in range(first, last)]
    for (row, extension), data in zip(wanted.places, found, strict=True):
        samples[row][extension] = data
    return samples


@dataclass(kw_only=True)
class _Ranges:
    """Byte ranges of a tar, and which member of which sample each is."""

    places: list[tuple[int, str]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def add(self, row: int, extension: str, offset: int, size: int) -> None:
        self.places.append((row, extension))
        self.offsets.append(offset)
        self.sizes.append(size)
