"""A long listing of an object store in parts, side by side.

A store gives a thousand names a request, and the next request only when that is answered: for a hundred thousand shards
that takes a minute. Names known from before divide the alphabet into parts that are listed at once. All parts together
are all names, whatever came and went since.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import obstore

from tarloom.format.storage.base import Entry, Survey, sift

if TYPE_CHECKING:
    from obstore import ObjectMeta

PAGE = 1000
"""Names that stores give at a time."""
PARTS = 16
LEAST = 2000
"""Fewer names need few requests."""


def survey(store: Any, wanted: Callable[[str], bool], known: Callable[[], Sequence[str]]) -> Survey:
    """Entries of files that are wanted, names of the others.

    known: gives names of some time ago, sorted; none where the store lists in no alphabetical order. They are asked for
    where there is more than a page: what is small is listed by the time they would have come.
    """
    pages = iter(obstore.list(store, chunk_size=PAGE))
    first = next(pages, [])
    divided = _survey_in_parts(store, wanted, known()) if len(first) == PAGE else None
    return divided or sift(map(entry_of, chain.from_iterable(chain([first], pages))), wanted)


def _survey_in_parts(store: Any, wanted: Callable[[str], bool], known: Sequence[str]) -> Survey | None:
    """The same; None where that must be listed in one part."""
    if len(known) < LEAST:
        return None
    bounds = known[:: -(-len(known) // PARTS)][1:]
    with ThreadPoolExecutor(len(bounds) + 1) as pool:
        listed = partial(_survey_part, store, wanted)
        try:
            parts = list(pool.map(listed, (None, *bounds), (*bounds, None)))
        except (_OutOfOrder, ValueError):  # ValueError: a name known from before that no object can have
            return None
    return [entry for entries, _ in parts for entry in entries], set().union(*(names for _, names in parts))


def entry_of(meta: "ObjectMeta") -> Entry:
    """What obstore says of an object. Azure writes an etag without its quotes in a listing, and with them elsewhere."""
    etag = meta["e_tag"]
    quoted = etag is None or etag.endswith('"')
    return Entry(name=meta["path"], size=meta["size"], etag=etag if quoted else f'"{etag}"')


class _OutOfOrder(Exception):
    """A name comes where it cannot in alphabetical order."""


def _survey_part(store: Any, wanted: Callable[[str], bool], after: str | None, upto: str | None) -> Survey:
    return sift(_listed(store, after, upto), wanted)


def _listed(store: Any, after: str | None, upto: str | None) -> Iterator[Entry]:
    """All entries behind one name and up to another."""
    last = after or ""
    for chunk in obstore.list(store, offset=after, chunk_size=PAGE):
        for meta in chunk:
            name = meta["path"]
            if name <= last:
                raise _OutOfOrder
            if upto is not None and name > upto:
                return
            last = name
            yield entry_of(meta)
