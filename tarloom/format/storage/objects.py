"""Files in an object store, through obstore: an object is visible when its upload is complete.

Credentials, region and endpoint are taken from the environment (AWS_*, GOOGLE_*, AZURE_*) where they are used.
"""

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING

import obstore
import pyarrow as pa
from obstore.exceptions import AlreadyExistsError, PreconditionError

from tarloom.errors import StorageError, UnreadableFile
from tarloom.format.storage.base import Entry, Storage, Survey, Values, cut_short
from tarloom.format.storage.client import object_store
from tarloom.format.storage.listing import PAGE, entry_of, survey
from tarloom.format.storage.object_errors import ENDS_BEFORE, is_of_one_object, translated
from tarloom.format.storage.packing import cut_from_pack, pack, pack_values
from tarloom.format.storage.ranges import Ranges

if TYPE_CHECKING:
    from obstore import GetOptions

REMOTE_SCHEMES = ("s3", "gs", "az", "abfs", "abfss", "memory")
_COUNTING_FROM_THE_END = ("s3://", "gs://", "memory://")
"""Stores that can be asked for the last bytes of a file; Azure cannot."""


@dataclass(frozen=True)
class ObjectStorage(Storage):
    """A prefix in an object store, through obstore."""

    url: str

    def list(self, prefix: str = "") -> Iterator[Entry]:
        with translated(self.describe(prefix)):
            for chunk in obstore.list(object_store(self.url), prefix=prefix or None, chunk_size=PAGE):
                yield from map(entry_of, chunk)

    def survey(self, wanted: Callable[[str], bool], known: Callable[[], Sequence[str]] = tuple) -> Survey:
        with translated(self.url):
            return survey(object_store(self.url), wanted, known if _lists_in_order(self.url) else tuple)

    def head(self, name: str) -> Entry | None:
        try:
            with translated(self.describe(name)):
                return entry_of(obstore.head(object_store(self.url), name))
        except FileNotFoundError:
            return None

    def read(self, name: str) -> bytes:
        with translated(self.describe(name), absent_is_error=True):
            return bytes(obstore.get(object_store(self.url), name).bytes())

    def read_at_most(self, name: str, most: int) -> bytes | None:
        try:
            with translated(self.describe(name), absent_is_error=True):
                found = obstore.get(object_store(self.url), name)
                return bytes(found.bytes()) if found.meta["size"] <= most else None
        except ValueError as error:
            raise UnreadableFile(f"{self.describe(name)}: no name that an object can have") from error
        except StorageError as error:
            if is_of_one_object(error.__cause__):
                raise UnreadableFile(str(error)) from error
            raise

    def read_end(self, name: str, size: int) -> tuple[memoryview, int] | None:
        if not self.url.startswith(_COUNTING_FROM_THE_END):
            return super().read_end(name, size)
        try:
            with translated(self.describe(name)):
                found = obstore.get(object_store(self.url), name, options={"range": {"suffix": size}})
                return memoryview(found.bytes()), found.meta["size"]
        except FileNotFoundError:
            return None
        except StorageError as error:
            if ENDS_BEFORE not in str(error):
                raise
            return memoryview(b""), 0  # an empty file has no last bytes

    def read_ranges(self, name: str, offsets: Sequence[int], sizes: Sequence[int]) -> Sequence[memoryview]:
        return cut_from_pack(self, name, offsets, sizes)

    def read_packed(self, name: str, groups: Sequence[Ranges]) -> Sequence[pa.Buffer]:
        return pack(groups, partial(self._fetch, name))

    def read_values(self, name: str, groups: Sequence[Ranges], apart: Collection[int]) -> Sequence[Values]:
        return pack_values(groups, partial(self._fetch, name), apart)

    def read_part(self, entry: Entry, offset: int, size: int) -> memoryview:
        """So many bytes of this version of a file. Raises StorageError where there is another one by now."""
        options: GetOptions = {"range": (offset, offset + size)}
        if entry.etag is not None:
            options["if_match"] = entry.etag
        with translated(self.describe(entry.name), absent_is_error=True):
            data = memoryview(obstore.get(object_store(self.url), entry.name, options=options).bytes())
        if len(data) != size:
            raise cut_short(self.describe(entry.name))
        return data

    def _fetch(self, name: str, starts: Sequence[int], ends: Sequence[int]) -> Sequence[memoryview]:
        """So many requests side by side. (obstore's own coalescing panics where an object has become shorter.)"""
        with translated(self.describe(name), absent_is_error=True):
            found = obstore.get_ranges(object_store(self.url), name, starts=starts, ends=ends, coalesce=0)
        if any(len(part) != end - start for part, start, end in zip(found, starts, ends, strict=True)):
            raise cut_short(self.describe(name))
        return [memoryview(part) for part in found]

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        where = self.describe(name)
        try:
            with tempfile.TemporaryFile(prefix="tarloom-") as spool:
                yield spool
                spool.seek(0)
                with translated(where):
                    obstore.put(object_store(self.url), name, spool)
        except OSError as error:
            waiting = f"{error.strerror or error} in {tempfile.gettempdir()}, where it waits to be sent"
            raise StorageError(f"{where}: {waiting}; free space there, or set TMPDIR") from error

    def write_new(self, name: str, data: bytes) -> bool:
        with translated(self.describe(name)):
            try:
                obstore.put(object_store(self.url), name, data, mode="create")
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def write_unsynced(self, name: str, data: bytes) -> None:
        with translated(self.describe(name)):
            obstore.put(object_store(self.url), name, data)

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), translated(self.describe(name)):
            obstore.delete(object_store(self.url), name)

    def delete_folder(self, prefix: str) -> None:
        names = [entry.name for entry in self.list(prefix)]
        with contextlib.suppress(FileNotFoundError), translated(self.describe(prefix)):
            obstore.delete(object_store(self.url), names)

    def sweep(self) -> int:
        """Unfinished uploads are never visible; a bucket's lifecycle rule clears their parts."""
        return 0


def _lists_in_order(url: str) -> bool:
    """Whether the store promises names in alphabetical order: S3 and Google do, but not S3's directory buckets."""
    scheme, _, rest = url.partition("://")
    return scheme in ("s3", "gs") and not rest.partition("/")[0].endswith("--x-s3")
