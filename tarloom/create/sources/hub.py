"""Lists and pictures in repositories of the Hugging Face hub, as hf://datasets/USER/NAME[@REVISION]/PATH.

A token is taken from where huggingface_hub keeps it (HF_TOKEN), the server from HF_ENDPOINT.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tarloom.create.sources.read_only import ReadOnlyStorage
from tarloom.errors import StorageError, first_line, missing_extra
from tarloom.format.storage.base import Entry, cut_short

try:
    import httpx
    from huggingface_hub import HfFileSystem
except ImportError as error:
    raise missing_extra("hf", error) from error


@dataclass(frozen=True)
class HubStorage(ReadOnlyStorage):
    """A folder in a repository."""

    url: str

    def list(self, prefix: str = "") -> Iterator[Entry]:
        files = _files()
        with _translated(self.describe(prefix)):
            root = files.resolve_path(self.url).unresolve()
            try:
                found = files.find(f"{root}/{prefix}".rstrip("/"), detail=True)
            except FileNotFoundError:
                return
        for name, info in found.items():
            yield _entry(name.removeprefix(f"{root}/"), info)

    def head(self, name: str) -> Entry | None:
        with _translated(self.describe(name)):
            try:
                info = _files().info(self.describe(name))
            except FileNotFoundError:
                return None
        return _entry(name, info) if info["type"] == "file" else None

    def read_range(self, name: str, offset: int, size: int) -> memoryview:
        with _translated(self.describe(name)):
            data: bytes = _files().cat_file(self.describe(name), start=offset, end=offset + size) if size else b""
        if len(data) != size:
            raise cut_short(self.describe(name))
        return memoryview(data)


def _files() -> Any:
    """huggingface_hub makes one of it and keeps that."""
    return HfFileSystem(endpoint=os.environ.get("HF_ENDPOINT"))


def _entry(name: str, info: dict[str, Any]) -> Entry:
    lfs = info.get("lfs")
    return Entry(name=name, size=info["size"], etag=lfs["sha256"] if lfs else info.get("blob_id"))


@contextmanager
def _translated(where: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, OSError, ValueError, NotImplementedError) as error:
        raise StorageError(f"{where}: {first_line(error)}; check the address, the network and HF_TOKEN") from error
