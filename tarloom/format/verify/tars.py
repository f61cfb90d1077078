"""One pass over every byte of a tar: what its members are, what its bytes hash to, whether its JSON members parse."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from tarloom.format.index import HeadersHash, IndexBuilder, ShardIndex
from tarloom.format.layout import compression_of, shard_of
from tarloom.format.storage import Entry, Storage
from tarloom.format.tar.compressed import Unpacked
from tarloom.format.tar.headers import Headers, Link, Member, ReadAt
from tarloom.format.tar.survey import Survey
from tarloom.format.tar.walk import split_name
from tarloom.format.verify.findings import Findings

_CHUNK_BYTES = 8 << 20
_MAX_JSON_BYTES = 64 << 20
"""A larger JSON member is not parsed: it would have to be held whole."""


@dataclass(frozen=True, kw_only=True)
class TarContents:
    """What a whole tar was found to hold."""

    file: str
    index: ShardIndex
    """Made from its headers, as for a foreign tar."""
    sha256: str
    """Of all its bytes as they lie there, hexadecimal."""
    foreign_keys: dict[str, str] = field(default_factory=dict)
    """Samples whose JSON member names another key: their key, and that one."""

    @property
    def identities(self) -> tuple[str, str]:
        """Both ways to call this version of the tar."""
        return f"sha256:{self.sha256}", self.index.identity


def read_tar(storage: Storage, tar: Entry, findings: Findings) -> TarContents | None:
    """Read a tar from end to end; None, and a finding, where it is not sound."""
    stream = _Stream(storage, tar)
    survey, broken = Survey(), _JsonMembers()
    index: ShardIndex | None = None
    with findings.reading(tar.name):
        index = _indexed(storage, tar, Unpacked(storage, tar) if compression_of(tar.name) else stream, survey, broken)
        stream.drain()
    for problem in (*survey.problems(), *broken.problems()):
        findings.add(tar.name, problem)
    for oddity in survey.oddities():
        findings.add(tar.name, oddity, "warning")
    if index is None:
        return None
    return TarContents(file=tar.name, index=index, sha256=stream.sha256, foreign_keys=broken.foreign)


def _indexed(
    storage: Storage, tar: Entry, read_at: ReadAt, survey: Survey, broken: "_JsonMembers"
) -> ShardIndex | None:
    """The index as readers would make it; None where they could not, which the survey then says."""
    where = storage.describe(tar.name)
    builder, names = IndexBuilder(where), HeadersHash()
    headers = Headers(read_at, None if compression_of(tar.name) else tar.size, where)
    for found in headers:
        survey.add(found)
        parts = split_name(found.name)
        if isinstance(found, Link):
            continue
        names.add(found)
        if parts is not None and survey.joins:
            builder.add(*parts, found.offset, found.size)
            if parts[1] == "json" and found.size <= _MAX_JSON_BYTES:
                broken.check(parts[0], found, read_at)
    headers.check_end()
    return builder.finish(shard_of(tar.name), tar.size, names.identity, tar.etag) if survey.joins else None


class _JsonMembers:
    """Parses JSON members; keeps what is wrong with them."""

    def __init__(self) -> None:
        self.foreign: dict[str, str] = {}
        self._unsound: list[Member] = []

    def check(self, key: str, member: Member, read_at: ReadAt) -> None:
        try:
            found = json.loads(bytes(read_at(member.offset, member.size)))
        except (ValueError, RecursionError):
            self._unsound.append(member)
            return
        named = found.get("key", key) if isinstance(found, dict) else key
        if named != key:
            self.foreign[key] = str(named)

    def problems(self) -> Iterator[str]:
        if self._unsound:
            first, more = self._unsound[0], len(self._unsound) - 1
            others = f" (and {more} more like it)" if more else ""
            yield f"member {first.name!r} at byte {first.offset} is not JSON{others}; make the shard anew"


class _Stream:
    """Reads a tar forwards in big chunks and hashes all that passes, whatever parts of it are asked for."""

    def __init__(self, storage: Storage, tar: Entry) -> None:
        self._storage = storage
        self._tar = tar
        self._hash = hashlib.sha256()
        self._start = 0
        self._data = b""

    def __call__(self, offset: int, size: int) -> bytes:
        """Bytes from an offset not before that of an earlier call."""
        while self._end < min(offset + size, self._tar.size):
            self._advance(offset)
        return self._data[offset - self._start : offset - self._start + size]

    def drain(self) -> None:
        """Read and hash what is left."""
        while self._end < self._tar.size:
            self._advance(self._tar.size)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def _end(self) -> int:
        return self._start + len(self._data)

    def _advance(self, wanted: int) -> None:
        """Read the next chunk; of what was read before, keep what lies behind `wanted`."""
        end = self._end
        length = min(_CHUNK_BYTES, self._tar.size - end)
        chunk = self._storage.read_ranges(self._tar.name, [end], [length])[0]
        self._hash.update(chunk)
        kept = self._data[max(0, wanted - self._start) :]
        self._data = kept + bytes(chunk)
        self._start = end - len(kept)
