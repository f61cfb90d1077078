"""What lies in the archives of one file, from their headers alone: the samples that can be saved, and what cannot.

- Members of a key join, wherever they lie; samples are in the order in which their keys first appear.
- A member that comes again with the same bytes is one. With other bytes, the first of neighbours is kept; where it is
  apart from them, another sample has begun under the same key: all of it is left out, so that no two samples mix.
- A link is the file that it leads to, if that is in the same file. A file of its name is taken instead, wherever it
  lies, as readers do.
- Where the file is cut or damaged, the sample there is left out unless all that samples have in common is whole.
"""

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tarloom.errors import CorruptShard
from tarloom.format.index import MOST_EXTENSIONS, HeadersHash, IndexBuilder
from tarloom.format.storage import Entry, Storage
from tarloom.format.tar.block import BLOCK, is_header
from tarloom.format.tar.headers import Headers, Link, Member, ReadAt
from tarloom.format.tar.walk import split_name

_COMPARED_BYTES = 4 << 20
_MOST_LINKS = 40
"""Followed one behind the other, as systems do."""


class Place(NamedTuple):
    """Where a member's bytes lie."""

    offset: int
    size: int


class Followed(Place):
    """Where the bytes lie that a hard link stands for."""


@dataclass(kw_only=True)
class Inventory:
    """The samples of a file, and how many things were found of each kind that is not plain."""

    samples: dict[str, dict[str, Place]] = field(default_factory=dict)
    """By key, then by extension, in the order of their first appearance."""
    identity: str = ""
    """By which an index made by a walk calls this file."""
    found: dict[str, int] = field(default_factory=dict)
    """Counts, by what was found: in words, for people."""
    first: dict[str, str] = field(default_factory=dict)
    """The first name of each kind."""
    lost: set[str] = field(default_factory=set)
    """The kinds by which something is lost."""

    def note(self, what: str, name: str, *, lost: bool = False, count: int = 1) -> None:
        """Count something."""
        self.found[what] = self.found.get(what, 0) + count
        self.first.setdefault(what, name)
        if lost:
            self.lost.add(what)

    def drop(self, keys: Iterable[str]) -> None:
        """Leave these samples out."""
        for key in keys:
            del self.samples[key]

    def lines(self) -> Iterator[str]:
        """What was found, one line a kind."""
        for what, count in self.found.items():
            yield f"{what}: {self.first[what]}" if count == 1 else f"{what}: {count}, first {self.first[what]}"


def reason_of(error: Exception, where: str) -> str:
    """What an error's message says, without the file that it begins with and the advice at its end."""
    return str(error).removeprefix(f"{where}: ").partition(";")[0]


def take_inventory(storage: Storage, tar: Entry, read_at: ReadAt) -> Inventory:
    """Look at all headers of a file; nothing that is damaged raises.

    read_at: asked forwards. The storage is asked for bytes of members that may be the same.
    """
    return _Taking(storage, tar, read_at).inventory


class _Taking:
    def __init__(self, storage: Storage, tar: Entry, read_at: ReadAt) -> None:
        self._storage = storage
        self._tar = tar
        self._names: dict[str, Place | Link] = {}
        self._extensions: set[str] = set()
        self._key = ""
        self._here: set[str] = set()
        self._run: dict[str, Place | Link] = {}
        self._samples: dict[str, dict[str, Place | Link]] = {}
        self._hash = HeadersHash()
        self.inventory = Inventory()
        self._take_all(read_at)
        self.inventory.identity = self._hash.identity

    def _take_all(self, read_at: ReadAt) -> None:
        start: int | None = 0
        while start is not None:
            self._key, self._here = "", set()
            headers = Headers(read_at, self._tar.size, self._storage.describe(self._tar.name), start=start)
            try:
                for found in headers:
                    self._take(found)
                start = self._next_archive(read_at, headers.offset)
            except CorruptShard as error:
                self._leave_out_damaged(headers, error)
                start = None
            self._end_run()
        self._resolve_all()

    def _take(self, found: Member | Link) -> None:
        thing = Place(found.offset, found.size) if isinstance(found, Member) else self._hard_target(found)
        if isinstance(found, Member):
            self._hash.add(found)
        self._names[posixpath.normpath(found.name)] = thing
        parts = split_name(found.name)
        if parts is None:
            if isinstance(found, Member):
                self.inventory.note("files of no sample left out", repr(found.name))
            return
        key, extension = parts
        if not self._fits_an_index(key, extension):
            self.inventory.note("members whose names no index can hold left out", repr(found.name), lost=True)
            return
        if key != self._key:
            self._end_run()
            self._key = key
            self._here.add(key)
        before = self._run.setdefault(extension, thing)
        if _has_link(before, thing):
            self._run[extension] = self._chosen(found.name, before, thing)
        elif before is not thing:
            self._note_again(found.name, self._is_same(before, thing))

    def _chosen(self, name: str, before: Place | Link, thing: Place | Link) -> Place | Link:
        """Of two members of one name, of which one or both are links: the file, else the first."""
        if before is not thing:
            what = "links beside another member of their name left out"
            self.inventory.note(what, repr(name), lost=_is_link(before) and _is_link(thing) and before != thing)
        return before if _is_link(thing) else thing

    def _fits_an_index(self, key: str, extension: str) -> bool:
        if extension not in self._extensions and len(self._extensions) == MOST_EXTENSIONS:
            return False
        fits = _fits_a_table(key, extension)
        if fits:
            self._extensions.add(extension)
        return fits

    def _note_again(self, name: str, is_same: bool, count: int = 1) -> None:
        if is_same:
            self.inventory.note("members that come again with the same bytes left out", repr(name), count=count)
        else:
            what = "members that come again with other bytes left out"
            self.inventory.note(what, repr(name), lost=True, count=count)

    def _end_run(self) -> None:
        """Join neighbours of one key to what was found of it before."""
        run, self._run = self._run, {}
        if not run:
            return
        known = self._samples.setdefault(self._key, {})
        again = [extension for extension in run if extension in known]
        files = [extension for extension in again if not _has_link(known[extension], run[extension])]
        name = f"{self._key}.{next(iter(files or run))}"
        if not all(self._is_same(known[extension], run[extension]) for extension in files):
            self._note_again(name, is_same=False, count=len(run))
            return
        if files:
            self._note_again(name, is_same=True, count=len(files))
        if known and len(again) < len(run):
            self.inventory.note("samples whose members were apart joined", repr(self._key))
        for extension, thing in run.items():
            before = known.setdefault(extension, thing)
            if _has_link(before, thing):
                known[extension] = self._chosen(f"{self._key}.{extension}", before, thing)

    def _hard_target(self, link: Link) -> Place | Link:
        found = self._names.get(posixpath.normpath(link.target)) if link.is_hard else None
        return Followed(*found) if isinstance(found, Place) else link

    def _is_same(self, one: Place | Link, other: Place | Link) -> bool:
        """Whether two files have the same bytes."""
        assert isinstance(one, Place)
        assert isinstance(other, Place)
        if one == other:
            return True
        return one.size == other.size and all(
            self._storage.read_ranges(self._tar.name, [one.offset + at], [size])[0]
            == self._storage.read_ranges(self._tar.name, [other.offset + at], [size])[0]
            for at in range(0, one.size, _COMPARED_BYTES)
            for size in (min(_COMPARED_BYTES, one.size - at),)
        )

    def _leave_out_damaged(self, headers: Headers, error: CorruptShard) -> None:
        reason = reason_of(error, self._storage.describe(self._tar.name))
        behind = self._tar.size - headers.offset
        if behind or not headers.offset:
            what = f"bytes left out behind damage ({reason})"
            self.inventory.note(what, f"at byte {headers.offset}", lost=True, count=behind)
        parts = split_name(headers.cut) if headers.cut else None
        if parts is not None:
            self._drop_incomplete(parts[0])
        elif self._key:
            self._drop_unless_usual()

    def _drop_incomplete(self, key: str) -> None:
        """Leave out a sample of this archive; one that an earlier archive had under this key stays."""
        if key == self._key:
            self._run = {}
        if key in self._here:
            self._samples.pop(key, None)
        self.inventory.note("incomplete samples left out", repr(key), lost=True)

    def _drop_unless_usual(self) -> None:
        """The last sample may have had more members: it must have what all others have."""
        self._end_run()
        others = [set(members) for key, members in self._samples.items() if key != self._key]
        if others and not set.intersection(*others) <= self._samples[self._key].keys():
            self._drop_incomplete(self._key)

    def _next_archive(self, read_at: ReadAt, offset: int) -> int | None:
        """Where another archive begins behind the end of one, None where none does."""
        while offset < self._tar.size:
            rest = bytes(read_at(offset, min(1 << 20, self._tar.size - offset)))
            if rest.count(0) == len(rest):
                offset += len(rest)
                continue
            zeros = len(rest) - len(rest.lstrip(b"\0"))
            offset += zeros - zeros % BLOCK
            if is_header(bytes(read_at(offset, min(BLOCK, self._tar.size - offset)))):
                self.inventory.note("further archives joined", f"at byte {offset}")
                return offset
            what = "bytes behind the end of the archive left out"
            self.inventory.note(what, f"at byte {offset}", lost=True, count=self._tar.size - offset)
            return None
        return None

    def _resolve_all(self) -> None:
        for key, members in self._samples.items():
            places = {extension: self._resolved(f"{key}.{extension}", thing) for extension, thing in members.items()}
            sample = {extension: place for extension, place in places.items() if place is not None}
            if sample:
                self.inventory.samples[key] = sample

    def _resolved(self, name: str, thing: Place | Link) -> Place | None:
        """Where a member's bytes are; None, and a note, where it is a link that leads to nothing in this file."""
        found: Place | Link | None = thing
        for _ in range(_MOST_LINKS):
            if not isinstance(found, Link):
                break
            folder = "" if found.is_hard else posixpath.dirname(found.name)
            found = self._names.get(posixpath.normpath(posixpath.join(folder, found.target)))
        if not isinstance(found, Place):
            self.inventory.note("links that lead to no file in here left out", repr(name), lost=True)
            return None
        if _is_link(thing):
            self.inventory.note("links made files", repr(name))
        return found


def _is_link(thing: Place | Link) -> bool:
    return isinstance(thing, Link | Followed)


def _has_link(one: Place | Link, other: Place | Link) -> bool:
    return _is_link(one) or _is_link(other)


def _fits_a_table(key: str, extension: str) -> bool:
    try:
        IndexBuilder().add(key, extension, 0, 0)
    except CorruptShard:
        return False
    return True
