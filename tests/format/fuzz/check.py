"""What must hold for every damaged tar: a named error, or samples that everybody else reads there too.

1. Whatever is raised is a ShardError or UsageError that names the file.
2. What is read lies in the file, in order, and no two ranges overlap.
3. tarfile reads the same names, places and sizes. Where tarfile stops without an error, we may go on only behind a
   header that it refuses for a number that says nothing about names and places (an owner, a mode, a device).
4. webdataset, over the same file as a stream, yields the same samples: same keys in the same order, same bytes.
5. Where headers were not forged (flips, cuts, compression): every name is the original's, and every byte but the
   flipped ones is that of the original's member of that name.
"""

import bisect
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from webdataset.tariterators import group_by_keys, tar_file_expander

from tarloom.errors import ShardError
from tarloom.format.index_load import scan_index
from tarloom.format.storage import LocalStorage
from tarloom.format.tar.block import BLOCK, is_header
from tarloom.format.tar.compressed import open_tar, tar_ranges
from tarloom.format.tar.headers import Headers, Member
from tarloom.format.tar.walk import is_of_a_sample
from tests.format.fuzz.cases import Case

Samples = dict[str, dict[str, tuple[int, int]]]
"""Where each member of each sample lies: (offset, size)."""


class Broken(AssertionError):
    """A rule does not hold."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What reading gave: samples, or the name of an error."""

    samples: int
    error: str = ""


def check(case: Case, folder: Path) -> Outcome:
    """Read the case from a file in this folder. Raises Broken."""
    name = f"x{case.suffix}"
    (folder / name).write_bytes(case.data)
    storage = LocalStorage(str(folder))
    entry = storage.head(name)
    try:
        index = scan_index(storage, "x", entry)
        places = _places(index.table)
        found = tar_ranges(storage, entry).read_ranges(name, [o for _, _, o, _ in places], [s for *_, s in places])
        contents = [bytes(view) for view in found]
    except ShardError as error:
        if not str(error).startswith(f"{folder}/{name}: "):
            raise Broken(f"the error does not name the file: {error}") from error
        return Outcome(samples=0, error=type(error).__name__)
    with open_tar(storage, entry) as stream:
        plain = stream.read()
    _check_places(places, len(plain))
    if any(plain[offset : offset + size] != data for (_, _, offset, size), data in zip(places, contents, strict=True)):
        raise Broken("bytes from elsewhere")
    members = [found for found in Headers(_reader(plain), len(plain), "x") if isinstance(found, Member)]
    _check_tarfile(plain, members)
    _check_webdataset(plain, index.keys.to_pylist(), places, contents)
    if case.is_exact:
        _check_exact(case, members, plain)
    return Outcome(samples=index.rows)


def _reader(data: bytes):
    return lambda offset, size: data[offset : offset + size]


def _places(table: pa.Table) -> list[tuple[str, str, int, int]]:
    """(key, extension, offset, size) of all members, by offset."""
    keys = table["__key__"].to_pylist()
    found = []
    for column in table.column_names:
        if column.endswith(":size"):
            extension = column.removesuffix(":size")
            offsets, sizes = table[f"{extension}:offset"].to_pylist(), table[column].to_pylist()
            rows = zip(keys, offsets, sizes, strict=True)
            found += [(key, extension, offset, size) for key, offset, size in rows if size is not None]
    return sorted(found, key=lambda place: place[2])


def _check_places(places: list[tuple[str, str, int, int]], size: int) -> None:
    end = 0
    for key, extension, offset, length in places:
        if offset % BLOCK or offset < end + BLOCK or length < 0:
            raise Broken(f"{key}.{extension} at {offset} overlaps what ends at {end}")
        end = offset + length
    if end > size:
        raise Broken(f"a member ends at {end} of {size} bytes")


def _check_tarfile(data: bytes, members: list[Member]) -> None:
    theirs = []
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            theirs = [(m.name, m.offset_data, m.size) for m in tar if m.isreg()]
    except Exception as error:  # it raises all sorts of things
        if not _stops_for_nothing(data, len(data)):
            raise Broken(f"we read {len(members)} members where tarfile raises {error!r}") from error
        return
    ours = [(m.name, m.offset, m.size) for m in members]
    if ours[: len(theirs)] != theirs:
        pair = next((pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]), (ours, theirs))
        raise Broken(f"we read {pair[0]} where tarfile reads {pair[1]}")
    if len(ours) > len(theirs) and not _stops_for_nothing(data, ours[len(theirs)][1]):
        raise Broken(f"we read {ours[len(theirs)]} where tarfile ends")


def _stops_for_nothing(data: bytes, before: int) -> bool:
    """Whether some header in front of this offset has a right checksum and is refused by tarfile all the same."""
    return any(_is_refused_for_nothing(data, at) for at in range(0, before, BLOCK))


def _is_refused_for_nothing(data: bytes, at: int) -> bool:
    block = data[at : at + BLOCK]
    if not is_header(block):
        return False
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return True
    return False


def _check_webdataset(
    data: bytes, keys: list[str], places: list[tuple[str, str, int, int]], contents: list[bytes]
) -> None:
    ours: dict[str, dict[str, bytes]] = {key: {} for key in keys}
    for (key, extension, *_), content in zip(places, contents, strict=True):
        ours[key][extension] = content
    theirs = []
    try:
        files = tar_file_expander([{"url": "x", "stream": io.BytesIO(data)}], select_files=is_of_a_sample)
        for sample in group_by_keys(files):
            key = sample.pop("__key__")
            sample.pop("__url__")
            theirs.append((key, sample))
    except Exception as error:  # it raises what tarfile does
        if not _stops_for_nothing(data, len(data)):
            raise Broken(f"we read {len(ours)} samples where webdataset raises {error!r}") from error
        return
    if list(ours.items()) != theirs and not _stops_for_nothing(data, len(data)):
        raise Broken(f"webdataset reads {[key for key, _ in theirs]}, we read {list(ours)}, or other bytes")


def _check_exact(case: Case, members: list[Member], plain: bytes) -> None:
    (original,) = case.originals
    if list(original.members[: len(members)]) != members:
        raise Broken("names or places are not the original's")
    changed = sorted(case.changed)
    for member in members:
        end = member.offset + member.size
        flipped = changed[bisect.bisect_left(changed, member.offset) : bisect.bisect_left(changed, end)]
        ours, right = bytearray(plain[member.offset : end]), original.data[member.offset : end]
        for at in flipped:
            ours[at - member.offset] = right[at - member.offset]
        if ours != right:
            raise Broken(f"the bytes of {member.name} are not the original's")
    if case.suffix != ".tar" and len(members) != len(original.members):
        raise Broken("members are missing from a stream that was decompressed whole")
