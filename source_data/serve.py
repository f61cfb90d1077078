"""A web server over this folder, on loopback, that also misbehaves: python source_data/serve.py --port 8765

    /pictures/0001.jpg                   a picture, as it lies in the folder
    /error-once/pictures/0001.jpg        a 500 first, the picture on the second try, and so on in turn
    /busy/pictures/0001.jpg              429 with "Retry-After: 1"; the picture once that second has passed
    /moved/pictures/0001.jpg             a redirect to the picture
    /trouble/...                         what never becomes a picture: see TROUBLES

What the server remembers (which path was asked for when) lives as long as it runs. In tests and programs:

    with PhotoServer(folder) as server:
        download(f"{server.url}/pictures/0001.jpg")
"""

import argparse
import asyncio
import contextlib
import mimetypes
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiohttp import web

HERE: Final = Path(__file__).resolve().parent
PORT: Final = 8765
"""The port of the addresses in urls.csv."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_BUSY_SECONDS: Final = 1.0
_SLACK_SECONDS: Final = 0.05
_PAGE: Final = "<!DOCTYPE html><title>Sign in</title><p>Please sign in to see this picture."


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """An address from which no picture comes: where, what happens, and the error that its row must be given."""

    url: str
    """A path on this server, or a whole address elsewhere."""
    story: str
    expected: str


TROUBLES: Final = (
    Trouble(url="trouble/missing.jpg", story="a page not found", expected="http_404"),
    Trouble(url="trouble/page.jpg", story="an HTML page <b>named</b> .jpg", expected="not_an_image"),
    Trouble(url="trouble/truncated.jpg", story="half a picture", expected="truncated"),
    Trouble(url="trouble/stalls.jpg", story="a body that stops coming", expected="timeout"),
    Trouble(url="trouble/drips.jpg", story="a body of one byte now and then", expected="timeout"),
    Trouble(url="trouble/private.jpg", story="a redirect to a private address", expected="refused_private_address"),
    Trouble(url="trouble/floods.jpg", story="a body that never ends", expected="too_large"),
    Trouble(url="trouble/loop.jpg", story="a redirect to itself", expected="too_many_redirects"),
    Trouble(url="trouble/bomb.png", story="a small file of 2.5 thousand million pixels", expected="too_many_pixels"),
    Trouble(url="trouble/broken.jpg", story="an error that stays", expected="http_500"),
    Trouble(url="http://10.0.0.1/inside.jpg", story="a private address", expected="refused_private_address"),
    Trouble(url="file:///etc/hostname", story="a file of the machine itself", expected="scheme_refused"),
)


class PhotoServer:
    """The server in a thread of its own, for as long as a `with` block lasts. Port 0 takes any free one.

    Raises OSError on entering if the port is taken.
    """

    def __init__(self, folder: Path = HERE, *, port: int = 0) -> None:
        self.requests: Final[Counter[str]] = Counter()
        """How often each path was asked for."""
        self._folder = folder
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="photo-server", daemon=True)
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Such as http://127.0.0.1:8765, without a slash at its end."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._call(self._start())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _call(self, work: Awaitable[None]) -> None:
        asyncio.run_coroutine_threadsafe(_awaited(work), self._loop).result()

    async def _start(self) -> None:
        application = build_application(self._folder, self.requests)
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
        await asyncio.sleep(0.01)  # lets the connections that were just closed end before the loop does

    def _end(self) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def build_application(folder: Path, requests: Counter[str]) -> web.Application:
    """The server's routes. `requests` counts every path that is asked for."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        requests[request.path] += 1
        return await handler(request)

    application = web.Application(middlewares=[count])
    application.router.add_get("/{path:pictures/.*}", _still(folder))
    application.router.add_get("/error-once/{path:.*}", _error_once(folder, requests))
    application.router.add_get("/busy/{path:.*}", _busy(folder))
    application.router.add_get("/moved/{path:.*}", _moved)
    for name, handler in {
        "page.jpg": _page,
        "truncated.jpg": _truncated(folder),
        "stalls.jpg": _stalls,
        "private.jpg": _private,
        "floods.jpg": _floods,
        "loop.jpg": _loop,
        "drips.jpg": _drips,
        "bomb.png": _bomb,
        "broken.jpg": _broken,
        "cut.jpg": _cut(folder),
        "empty.jpg": _empty,
    }.items():
        application.router.add_get(f"/trouble/{name}", handler)
    return application


def _still(folder: Path) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return _picture(folder, request)

    return handler


def _error_once(folder: Path, requests: Counter[str]) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        if requests[request.path] % 2:
            raise web.HTTPInternalServerError
        return _picture(folder, request)

    return handler


def _busy(folder: Path) -> Handler:
    free_at: dict[str, float] = {}

    async def handler(request: web.Request) -> web.StreamResponse:
        now = time.monotonic()
        if now < free_at.setdefault(request.path, now + _BUSY_SECONDS) - _SLACK_SECONDS:
            raise web.HTTPTooManyRequests(headers={"Retry-After": f"{_BUSY_SECONDS:.0f}"})
        del free_at[request.path]
        return _picture(folder, request)

    return handler


async def _moved(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(f"/{request.match_info['path']}")


async def _page(request: web.Request) -> web.StreamResponse:
    return web.Response(text=_PAGE, content_type="text/html")


def _truncated(folder: Path) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        data = _first_picture(folder)
        return web.Response(body=data[: len(data) // 2], content_type="image/jpeg")

    return handler


def _cut(folder: Path) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        """A connection that closes before the promised length has come."""
        data = _first_picture(folder)
        response = await _begin(request, length=len(data))
        await response.write(data[: len(data) // 2])
        if request.transport:
            request.transport.close()
        return response

    return handler


async def _stalls(request: web.Request) -> web.StreamResponse:
    response = await _begin(request, length=100_000)
    await response.write(b"\xff\xd8\xff\xe0" + bytes(1000))
    await asyncio.Event().wait()
    return response


async def _drips(request: web.Request) -> web.StreamResponse:
    response = await _begin(request)
    with contextlib.suppress(ConnectionError):  # the client has left
        while True:
            await response.write(b"\xff")
            await asyncio.sleep(0.2)
    return response


async def _floods(request: web.Request) -> web.StreamResponse:
    response, connection = await _begin(request), request.transport
    try:
        with contextlib.suppress(ConnectionError):  # the client has left
            while True:
                await response.write(bytes(1 << 18))
    finally:
        if connection:
            connection.abort()  # else it would stay open until the client has read what is under way
    return response


async def _private(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("http://10.0.0.1/inside.jpg")


async def _loop(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(request.path)


async def _broken(request: web.Request) -> web.StreamResponse:
    raise web.HTTPInternalServerError


async def _empty(request: web.Request) -> web.StreamResponse:
    return web.Response(content_type="image/jpeg")


async def _bomb(request: web.Request) -> web.StreamResponse:
    """A sound PNG, 50,000 pixels square, that holds next to no data."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    body = b"".join(_png_chunk(name, data) for name, data in chunks)
    return web.Response(body=b"\x89PNG\r\n\x1a\n" + body, content_type="image/png")


def _png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


async def _begin(request: web.Request, *, length: int | None = None) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
    response.content_length = length
    await response.prepare(request)
    return response


def _picture(folder: Path, request: web.Request) -> web.StreamResponse:
    """Read at once: a web.FileResponse opens the file in a thread, and leaves it open if the client goes meanwhile."""
    path = (folder / request.match_info["path"]).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise web.HTTPNotFound
    kind, _ = mimetypes.guess_type(path.name)
    return web.Response(body=path.read_bytes(), content_type=kind or "application/octet-stream")


def _first_picture(folder: Path) -> bytes:
    return min((folder / "pictures").glob("*.jpg")).read_bytes()


async def _awaited(work: Awaitable[None]) -> None:
    await work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--port", type=int, default=PORT, help="port on 127.0.0.1; 0 for any free one (default: %(default)s)"
    )
    parser.add_argument("--folder", type=Path, default=HERE, help="folder with pictures/ (default: this one)")
    arguments = parser.parse_args()
    with PhotoServer(arguments.folder, port=arguments.port) as server:
        print(f"{server.url}/pictures/ shows {arguments.folder / 'pictures'}; stop with Ctrl-C", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
