"""Tar shards as they are read: a fast walk over the headers of any sound tar, and how names become samples.

The walk follows PAX and GNU extensions, and it never ends early in silence: what is not sound raises.

Where a tar ends: at its first all-zero block, as every reader has it. A tar without that block which ends exactly
behind a member is read by tarfile and webdataset alike, so `walk` takes it too; `Headers.check_end` does not.
"""

import contextlib
import re
from collections.abc import Iterator

from tarloom.errors import CorruptShard
from tarloom.format.tar.headers import Headers, Member, ReadAt

_SKIPPED = re.compile(r"__[^/]*__(?:/|\Z)|(?:.*/)?__MACOSX/", re.DOTALL)


def split_name(name: str) -> tuple[str, str] | None:
    """The sample's key and the member's extension: split at the first dot of the base name, the extension lower-case.

    As webdataset splits, folder included in the key. None for what belongs to no sample: no dot, hidden files, folders
    named like __this__ at the top, and what macOS adds.
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    if not stem or not dot or ("__" in name and _SKIPPED.match(name)) or ("\n" in folder and _is_odd(folder)):
        return None
    return f"{folder}{slash}{stem}", extension.lower()


def _is_odd(folder: str) -> bool:
    """Whether a folder has a dot behind a line's end, or in the part before it: webdataset sees no sample there."""
    return "." in folder[folder.rfind("/", 0, folder.index("\n")) + 1 :]


def is_of_a_sample(name: str) -> bool:
    """Whether a file in a tar belongs to a sample."""
    return split_name(name) is not None


def headers_are_of(blocks: bytes, *, name: str, size: int) -> bool:
    """Whether these blocks end with the header of this member, read with the extension headers in front of it."""
    with contextlib.suppress(CorruptShard):
        for found in Headers(lambda offset, length: blocks[offset : offset + length], None, "headers"):
            if isinstance(found, Member) and found.offset == len(blocks):
                return found.name.lower() == name.lower() and found.size == size
    return False


def walk(read_at: ReadAt, size: int | None, where: str) -> Iterator[Member]:
    """The regular files of a tar, in order, from its headers alone.

    read_at: bytes from an offset; asked for one block at a time, forwards. size: of the tar in bytes, None where it is
    compressed (see Headers). where: its address, for messages. Raises TruncatedShard where the tar ends too early,
    CorruptShard for anything else that is not sound.
    """
    return (found for found in Headers(read_at, size, where) if isinstance(found, Member))
