"""A list that lies on a web server: http:// and https://.

Read by byte ranges where the server knows them, which it is asked first; else fetched once, into a temporary file. The
address is the user's own, so it may be a private one; redirects are followed to http and https alone, ten at most. That
the file stays the same is seen to by its ETag, where it has a strong one, and by its length.
"""

import http.client
import os
import re
import shutil
import tempfile
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from tarloom import __version__
from tarloom.create.sources.read_only import ReadOnlyStorage
from tarloom.create.web.transient import TRANSIENT_STATUSES
from tarloom.errors import StorageError, UsageError
from tarloom.format.storage.base import Entry

TIMEOUT = 60.0
"""Seconds without any byte."""
TRIES = 5
FIRST_PAUSE = 0.5
"""Seconds before the second try; each further pause is twice as long."""
_PARTIAL = 206
_CHANGED = 412


class WebFile(ReadOnlyStorage):
    """The folder of one file on a web server."""

    def __init__(self, address: str) -> None:
        try:
            parts = urlsplit(address)
        except ValueError as error:
            raise UsageError(f"{address}: no address ({error})") from error
        if not parts.hostname:
            raise UsageError(f"{address}: the address has no host")
        if parts.username is not None:
            raise UsageError(
                f"{parts.hostname}: an address with a password is not fetched; use a signed one, or a file"
            )
        self._address = urlunsplit(parts._replace(fragment=""))
        self.name = unquote(parts.path).rpartition("/")[2]
        self._spool: Path | None = None
        self.url = urlunsplit((parts.scheme, parts.netloc, parts.path.rpartition("/")[0], "", ""))

    def head(self, name: str) -> Entry | None:
        return self.entry

    def local_path(self, name: str) -> Path | None:
        """The temporary file, where the server knows no ranges."""
        return self._spool

    def read_range(self, name: str, offset: int, size: int) -> memoryview:
        if not size:
            return memoryview(b"")
        headers = {"Range": f"bytes={offset}-{offset + size - 1}"}
        if self.entry.etag and self.entry.etag.startswith('"'):
            headers["If-Match"] = self.entry.etag
        for pause in _pauses():
            with self._translated(pause), _opened(self._address, headers) as answer:
                data = answer.read(size)
                if answer.status == _PARTIAL and len(data) == size and _length(answer) == self.entry.size:
                    return memoryview(data)
                if answer.status != _PARTIAL or _length(answer) != self.entry.size:
                    raise self._changed()
                raise http.client.IncompleteRead(data)
        raise AssertionError("unreachable")

    @cached_property
    def entry(self) -> Entry:
        """What the server says of the file. Where it sends all of it instead of the first byte, it is kept; where it
        sends that byte without a word on how many there are, all of it is asked for."""
        for pause in _pauses():
            with self._translated(pause):
                with _opened(self._address, {"Range": "bytes=0-0"}) as answer:
                    if answer.status != _PARTIAL or _length(answer) is not None:
                        return self._entry_of(answer)
                with _opened(self._address, {}) as answer:
                    return self._entry_of(answer)
        raise AssertionError("unreachable")

    def _entry_of(self, answer: http.client.HTTPResponse) -> Entry:
        size = _length(answer) if answer.status == _PARTIAL else None
        if size is None and answer.status == _PARTIAL:
            raise StorageError(f"{self._where}: the server sends a part and does not say of how much; copy the file")
        if size is None:
            self._spool = self._spooled(answer)
            size = self._spool.stat().st_size
        etag = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        return Entry(name=self.name, size=size, etag=etag)

    def _spooled(self, answer: http.client.HTTPResponse) -> Path:
        """The body in a temporary file, which goes when this does."""
        handle, path = tempfile.mkstemp(prefix="tarloom-")
        weakref.finalize(self, os.unlink, path)
        with open(handle, "wb") as file:
            shutil.copyfileobj(answer, file, 1 << 20)
            announced = answer.headers.get("Content-Length")
            if announced is not None and int(announced) != file.tell():
                raise http.client.IncompleteRead(b"")
        return Path(path)

    @contextmanager
    def _translated(self, pause: float | None) -> Iterator[None]:
        """What goes wrong as StorageError or, before the next try, a pause."""
        try:
            yield
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == _CHANGED:
                raise self._changed() from error
            if error.code not in TRANSIENT_STATUSES or pause is None:
                raise StorageError(f"{self._where}: the server answers {error.code} {_reason(error)}") from error
        except (http.client.HTTPException, OSError) as error:
            if pause is None:
                raise StorageError(f"{self._where}: {_reason(error)}; check the address and the network") from error
        else:
            return
        if pause is not None:
            time.sleep(pause)

    @property
    def _where(self) -> str:
        return self.describe(self.name)

    def _changed(self) -> StorageError:
        return StorageError(f"{self._where}: has changed while it was read; start again")


def _pauses() -> Iterator[float | None]:
    """Seconds to wait after each try, None after the last."""
    for number in range(TRIES - 1):
        yield FIRST_PAUSE * 2**number
    yield None


def _opened(address: str, headers: dict[str, str]) -> Any:
    """The answer to a GET. Only http and https are known, so that no redirect leads elsewhere."""
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPRedirectHandler(),
    ):
        director.add_handler(handler)
    known = {"User-Agent": f"tarloom/{__version__}", "Accept-Encoding": "identity"}
    return director.open(urllib.request.Request(address, headers={**known, **headers}), timeout=TIMEOUT)


def _length(answer: http.client.HTTPResponse) -> int | None:
    """The whole file's length, as the answer to a request for a range says it. Names of units have no case."""
    match = re.fullmatch(r"bytes \d+-\d+/(\d+)", answer.headers.get("Content-Range", ""), re.IGNORECASE)
    return int(match[1]) if match else None


def _reason(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "the answer was cut short"
    text = str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
    return (text.splitlines() or [type(error).__name__])[0]
