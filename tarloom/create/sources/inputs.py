"""The files of a source: found by path, folder or glob, opened as streams, and known by a digest of their bytes."""

import glob
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

import pyarrow as pa

from tarloom.create.sources.web_file import WebFile
from tarloom.errors import UsageError, first_line
from tarloom.format.layout import PRIVATE
from tarloom.format.storage import Entry, Storage, open_storage, split_location
from tarloom.format.storage.streams import open_stream

COMPRESSIONS: Final[dict[str, Literal["gzip", "zstd"]]] = {".gz": "gzip", ".zst": "zstd"}
WILDCARDS = "*?["
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
CHUNK_BYTES = 4 << 20
LONGEST_LINE = 16 << 20
"""Bytes: what has a longer one is no list."""
PICTURES_OR_LISTS = "a folder of pictures, a URL list, or a glob of lists"


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A file of the source and where it lies."""

    storage: Storage
    entry: Entry

    @property
    def where(self) -> str:
        """The file's full address, for messages."""
        return self.storage.describe(self.entry.name)

    @property
    def extension(self) -> str:
        """Lower case, without the dot and without what says how it is compressed."""
        name = self.entry.name.lower()
        for suffix in COMPRESSIONS:
            name = name.removesuffix(suffix)
        return name.rpartition("/")[2].rpartition(".")[2] if "." in name else ""

    @property
    def version(self) -> str | int | None:
        """The file's ETag or, on this machine's disks, the time of its last change.

        Raises UsageError where it has gone.
        """
        path = self.storage.local_path(self.entry.name)
        try:
            return self.entry.etag if path is None else path.stat().st_mtime_ns
        except OSError as error:
            raise UsageError(f"{self.where}: {error.strerror}; leave the source alone while it is read") from error

    def open(self) -> pa.NativeFile:
        """The file's bytes as a stream, decompressed."""
        raw = self.open_raw()
        for suffix, compression in COMPRESSIONS.items():
            if self.entry.name.lower().endswith(suffix):
                return pa.CompressedInputStream(raw, compression)
        return raw

    def open_raw(self) -> pa.NativeFile:
        """The file's bytes as they lie there; can be sought in."""
        path = self.storage.local_path(self.entry.name)
        if path is not None:
            try:
                return pa.OSFile(os.fsencode(path), "r")  # type: ignore[arg-type]  # the stubs know only str
            except OSError as error:
                raise UsageError(f"{self.where}: cannot be read ({error.strerror or error})") from error
        return pa.PythonFile(open_stream(self.storage, self.entry), mode="r")


def find_files(source: str, *, wanted: str = PICTURES_OR_LISTS) -> tuple[list[InputFile], bool]:
    """The files that a source names, in the order of their names, and whether it names a folder.

    wanted: what it may be. Raises UsageError where there is nothing.
    """
    if source.startswith(("http://", "https://")):
        found, folder = [_web_file(source)], False
    elif any(letter in source for letter in WILDCARDS) and not os.path.exists(source):
        found, folder = _globbed(source), False
    else:
        storage, name = _split(source.rstrip("/"))
        entry = None if source.endswith("/") else _file_entry(storage, name)
        folder = entry is None
        if folder and _is_pipe(storage, name):
            raise UsageError(f"source {source}: a pipe or device, and a list is read more than once; save it as a file")
        found = [InputFile(storage=storage, entry=entry)] if entry else _folder_files(source)
    if not found:
        raise UsageError(f"source {source}: nothing there; give {wanted}")
    return found, folder


def _is_pipe(storage: Storage, name: str) -> bool:
    path = storage.local_path(name)
    return path is not None and path.exists() and not (path.is_dir() or path.is_file())


def outside(files: list[InputFile], output: str) -> list[InputFile]:
    """The files of a source's folder but those of the output, where that lies in it: what a run makes is no source.

    Raises UsageError where both are one folder, and where nothing is left.
    """
    storage, made = files[0].storage, open_storage(output)
    if made.place == storage.place:
        raise UsageError(f"output {made.url}: is the folder of the source; choose another, which may lie in it")
    if not made.url.startswith(f"{storage.url}/"):
        return files
    kept = [file for file in files if not file.where.startswith(f"{made.url}/")]
    if not kept:
        raise UsageError(f"source {storage.url}: nothing in it but the output")
    return kept


def digest(files: Sequence[InputFile]) -> str:
    """What the files hold, as "sha256:HEX": of their bytes, whatever they are called and wherever they lie."""
    parts = (f"{file.entry.size}:{_digest_of(file)}" for file in files)
    return f"sha256:{hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()}"


def _digest_of(file: InputFile) -> str:
    if file.entry.etag is not None:
        return f"etag:{file.entry.etag}"
    with file.open_raw() as stream:
        hasher = hashlib.sha256()
        while chunk := stream.read(CHUNK_BYTES):
            hasher.update(chunk)
    return f"sha256:{hasher.hexdigest()}"


def of_kinds(files: Sequence[InputFile], extensions: Collection[str], *, is_folder: bool) -> list[InputFile]:
    """Those with these extensions; of a folder without what programs keep for themselves in it, in folders whose names
    begin with "_" (Spark's _temporary, Delta Lake's _delta_log): readers of tables leave these out."""

    def is_kept_aside(file: InputFile) -> bool:
        *folders, _ = file.entry.name.split("/")
        return any(name == PRIVATE or (is_folder and name.startswith("_")) for name in folders)

    return [file for file in files if file.extension in extensions and not is_kept_aside(file)]


def _web_file(address: str) -> InputFile:
    storage = WebFile(address)
    return InputFile(storage=storage, entry=storage.entry)


def _open_place(location: str) -> Storage:
    """The storage at a location that may be of a source alone."""
    if not location.startswith("hf://"):
        return open_storage(location)
    from tarloom.create.sources.hub import HubStorage  # Loads huggingface_hub: only where it is wanted.

    return HubStorage(location.rstrip("/"))


def _split(location: str) -> tuple[Storage, str]:
    """The storage of a file's folder, and the file's name in it."""
    folder, _, name = location.rpartition("/")
    return (_open_place(folder), name) if location.startswith("hf://") else split_location(location)


def _file_entry(storage: Storage, name: str) -> Entry | None:
    return storage.head(name) if name else None


def _folder_files(source: str) -> list[InputFile]:
    storage = _open_place(source)
    visible = (entry for entry in storage.list() if not _is_hidden(entry.name))
    return [InputFile(storage=storage, entry=entry) for entry in sorted(visible, key=lambda entry: entry.name)]


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _globbed(pattern: str) -> list[InputFile]:
    if "://" not in pattern:
        places = (split_location(path) for path in sorted(glob.glob(os.path.expanduser(pattern), recursive=True)))
        found = ((storage, _file_entry(storage, name)) for storage, name in places)
        return [InputFile(storage=storage, entry=entry) for storage, entry in found if entry is not None]
    folders = pattern.split("/")
    fixed = next(i for i, part in enumerate(folders) if any(letter in part for letter in WILDCARDS))
    wanted = folders[fixed:]
    files = _folder_files("/".join(folders[:fixed]))
    return [file for file in files if _matches(file.entry.name.split("/"), wanted)]


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether a path matches a pattern, part by part; "**" stands for any number of folders."""
    if not wanted or not parts:
        return not wanted and not parts
    if wanted[0] == "**":
        return _matches(parts, wanted[1:]) or _matches(parts[1:], wanted)
    return fnmatchcase(parts[0], wanted[0]) and _matches(parts[1:], wanted[1:])


def first_byte(file: InputFile) -> bytes:
    """The first byte that is not blank, if it is among the first few thousand; else b""."""
    with file.open() as stream:
        return _read(stream, 4096, file).removeprefix(BYTE_ORDER_MARK).lstrip()[:1]


def chunks(file: InputFile, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The file's bytes, decompressed."""
    with file.open() as stream:
        while chunk := _read(stream, chunk_bytes, file):
            yield chunk


def not_utf_8(file: InputFile) -> UsageError:
    """What to raise where a list has zero bytes: it is UTF-16, as some spreadsheets save text, or no text."""
    return UsageError(f"{file.where}: is UTF-16, or no text at all; save it as UTF-8")


def lines(file: InputFile, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[list[bytes]]:
    """The file's lines without their ends, in lists; blank lines are left out.

    Raises UsageError where a line is longer than LONGEST_LINE, the text is UTF-16, or the compression is broken.
    """
    rest = None
    for chunk in chunks(file, chunk_bytes):
        if rest is None and chunk.startswith(UTF_16_MARKS):
            raise not_utf_8(file)
        start = chunk.removeprefix(BYTE_ORDER_MARK) if rest is None else rest + chunk
        *whole, rest = start.split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise UsageError(f"{file.where}: a line is longer than {LONGEST_LINE} bytes; is this a list?")
        yield [line for line in map(bytes.strip, whole) if line]
    if rest is not None and rest.strip():
        yield [rest.strip()]


def _read(stream: pa.NativeFile, size: int, file: InputFile) -> bytes:
    try:
        return bytes(stream.read(size))
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{file.where}: cannot be decompressed ({first_line(error)})") from error
