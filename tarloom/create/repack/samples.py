"""Samples on their way from one tar to another: read by byte ranges, and changed where that is asked for."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tarloom.create.config import ImageOptions
from tarloom.create.repack.rows import Group, GroupSlice, Places
from tarloom.create.rows import EncodedPicture
from tarloom.create.sources.keys import hashed_key
from tarloom.errors import ImageError
from tarloom.format.layout import IMAGE_MEMBERS, tar_name

CHUNK_BYTES = 32 << 20
"""Members read at once."""
CHUNK_SAMPLES = 4096
AHEAD_BYTES = 96 << 20
"""Of members that are held in memory: read, or being read."""
READERS = 8
"""Threads that read: many where the chunks are small, since their shards are."""

Members = dict[str, bytes | memoryview]
"""A sample's files by extension, in the order of the extensions."""


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What becomes of a sample."""

    members: Members
    picture: EncodedPicture | None = None
    """In the place of the old one; None where it stays as it is."""
    changed: bool = False
    """Whether it has other bytes."""
    digest: str | None = None
    """Of the picture as it came, where the metadata does not know it."""
    key: str | None = None
    """That the picture as it came gives, where keys are made from content."""
    error: ImageError | None = None


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """Samples that are read at once."""

    group: Group
    samples: Places
    size: int
    """Bytes of their members."""


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """Changes samples as the options say."""

    images: ImageOptions
    process: Callable[[bytes, ImageOptions], EncodedPicture] | None
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


def read_samples(slices: Iterable[GroupSlice]) -> Iterator[list[Members]]:
    """The samples of all slices in their order, in lists of bounded size; the next ones are read meanwhile."""
    begun: deque[tuple[_Chunk, Future[list[Members]]]] = deque()
    held = 0
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="read")
    try:
        for chunk in (chunk for group_slice in slices for chunk in _chunks(group_slice)):
            while begun and (held + chunk.size > AHEAD_BYTES or len(begun) > 2 * READERS):
                done, future = begun.popleft()
                yield future.result()
                held -= done.size
            begun.append((chunk, pool.submit(_read, chunk)))
            held += chunk.size
        while begun:
            yield begun.popleft()[1].result()
    finally:
        pool.shutdown(cancel_futures=True)


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


def _chunks(group_slice: GroupSlice) -> Iterator[_Chunk]:
    """The slice in parts of at most CHUNK_BYTES, or of one sample."""
    index = group_slice.group.index
    sizes = np.zeros(index.rows, np.int64)
    for extension in index.extensions:
        sizes += np.nan_to_num(index.sizes(extension).to_numpy(zero_copy_only=False)).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(sizes[group_slice.samples])])
    first = 0
    while first < len(group_slice.samples):
        within = int(np.searchsorted(ends, ends[first] + CHUNK_BYTES, side="right")) - 1
        last = max(first + 1, min(within, first + CHUNK_SAMPLES))
        yield _Chunk(
            group=group_slice.group, samples=group_slice.samples[first:last], size=int(ends[last] - ends[first])
        )
        first = last


def _read(chunk: _Chunk) -> list[Members]:
    group, numbers = chunk.group, chunk.samples
    wanted = _Ranges()
    for extension in group.index.extensions:
        offsets = group.index.offsets(extension).take(numbers).to_pylist()
        sizes = group.index.sizes(extension).take(numbers).to_pylist()
        for row, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
            if offset is not None and size is not None:
                wanted.add(row, extension, offset, size)
    found = group.storage.read_ranges(tar_name(group.index.shard), wanted.offsets, wanted.sizes)
    samples: list[Members] = [{} for _ in chunk.samples]
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
