"""Web servers that lists lie on: one of files, with or without ranges, and one that speaks as much as is needed of the
Hugging Face hub's language."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class FileServer(ThreadingHTTPServer):
    """Files of a folder by their names. Change the attributes to change how it behaves."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.ranges = True
        self.always_ranges = False
        """Send the first byte where none is asked for."""
        self.content_range = "bytes {}-{}/{}"
        """First and last byte, and how many there are."""
        self.etags = True
        self.fail_next = 0
        """Answers to come that are 503."""
        self.cut_next = 0
        """Answers to come that end in the middle."""
        self.token: str | None = None
        """Who does not show it gets nothing."""
        self.requests: list[tuple[str, str | None]] = []
        """Paths asked for, and ranges."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        wanted = self.headers.get("Range", "bytes=0-0" if self.server.always_ranges else None)
        self.server.requests.append((self.path, wanted))
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self.answer(401, b"")
        elif path.startswith("/moved/"):
            self.answer(302, b"", {"Location": f"{self.server.url}/{path.removeprefix('/moved/')}"})
        elif path == "/loop":
            self.answer(302, b"", {"Location": f"/loop?{len(self.server.requests)}"})
        elif path == "/elsewhere":
            self.answer(302, b"", {"Location": "file:///etc/passwd"})
        elif path.startswith("/api/"):
            self.answer_api(path)
        elif self.server.fail_next:
            self.server.fail_next -= 1
            self.answer(503, b"busy")
        else:
            self.answer_file(re.sub(r"^/datasets/u/r/resolve/main/", "/", path), wanted)

    do_HEAD = do_GET

    def answer_file(self, path: str, wanted: str | None) -> None:
        file = self.server.folder / path.lstrip("/")
        if not file.is_file():
            return self.answer(404, b"")
        data = file.read_bytes()
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        headers = {"ETag": etag} if self.server.etags else {}
        if self.headers.get("If-Match") not in (None, etag):
            return self.answer(412, b"")
        if wanted is None or not self.server.ranges:
            return self.answer(200, data, headers)
        first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", wanted).groups())
        part = data[first : last + 1]
        headers["Content-Range"] = self.server.content_range.format(first, first + len(part) - 1, len(data))
        return self.answer(206, part, headers)

    def answer_api(self, path: str) -> None:
        """A dataset u/r with the files of the folder: /api/datasets/u/r/{revision,tree,paths-info}/..."""
        prefix = "/api/datasets/u/r"
        if not path.startswith(prefix):
            return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        kind, _, rest = path.removeprefix(prefix).lstrip("/").partition("/")
        if kind != "tree":
            return self.answer(200, json.dumps({"id": "u/r", "sha": "0" * 40, "siblings": []}).encode())
        folder = self.server.folder / rest.partition("/")[2]
        if not folder.is_dir():
            return self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        recursive = "recursive=true" in self.path.lower()
        found = sorted(folder.rglob("*") if recursive else folder.iterdir())
        return self.answer(200, json.dumps([self.described(each) for each in found]).encode())

    def described(self, path: Path) -> dict:
        name = str(path.relative_to(self.server.folder))
        if path.is_dir():
            return {"type": "directory", "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0, "path": name}
        data = path.read_bytes()
        return {"type": "file", "oid": hashlib.sha1(data).hexdigest(), "size": len(data), "path": name}

    def answer(self, status: int, body: bytes, headers: dict | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json" if self.path.startswith("/api/") else "text/plain")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.cut_next and len(body) > 1:
            self.server.cut_next -= 1
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[FileServer]:
    with FileServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
