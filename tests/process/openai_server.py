"""A server that speaks OpenAI's protocol, on loopback, and misbehaves as told: what a backend must bear.

It knows pictures by their colour: `numbered(7)` is a question about picture 7, and the answer is "picture 7".

    with OpenAIServer({7: ["http_500", "garbage"]}) as server:
        ...                              # picture 7 is answered on the third try

What is told for a picture is done try by try; "... for ever" as the last word repeats the one before it.
"""

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import cycle

import numpy as np
from aiohttp import web
from PIL import Image

from tarloom.process.caption.backend import Question

FOR_EVER = "for ever"
OUTAGE = "outage"
"""From now on nobody is answered."""
MODEL = "tiny/captioner"
GREY = 128 * 256 + 128
"""The number of the grey picture that a backend asks about to see whether the server is there."""


def numbered(number: int, *, side: int = 8) -> Question:
    rgb = np.full((side, side, 3), (number // 256, number % 256, 0), np.uint8)
    return Question(rgb=rgb, prompt="Which one?", uuid=str(number))


class OpenAIServer:
    """In a thread of its own, for as long as a `with` block lasts."""

    def __init__(self, told: Mapping[int, Sequence[str]] | None = None, *, key: str | None = None) -> None:
        self.asked: Counter[int] = Counter()
        """How often about each picture."""
        self.bodies: list[dict] = []
        self.authorizations: set[str | None] = set()
        """What requests said of who asks."""
        self.at_once = 0
        """The most requests that were under way together."""
        self.outage: str | None = None
        """What is done to everybody, whatever the picture."""
        self.strict = False
        """Whether a schema must forbid additional properties, as OpenAI has it."""
        self.seconds = 0.0
        """How long an answer takes."""
        self.together = 0
        """All but the first request, which is a backend's probe, wait until so many are under way, or for a minute."""
        self.words = cycle(["answer"])
        """What is done to the requests about pictures of which nothing is told, one after the other; not to grey."""
        self._told = {number: list(words) for number, words in (told or {}).items()}
        self._key = key
        self._now = 0
        self._met = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai-server", daemon=True)

    def __enter__(self):
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *failure):
        self._do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    caption = staticmethod(lambda body: f"picture {number_of(body)}")
    """What it says about the picture of a request."""

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _start(self):
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/chat/completions", self._completions)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        number = number_of(body)
        self.asked[number] += 1
        self.bodies.append(body)
        self.authorizations.add(request.headers.get("Authorization"))
        self._now += 1
        self.at_once = max(self.at_once, self._now)
        try:
            await self._meet()
            await asyncio.sleep(self.seconds)
            if self._key is not None and request.headers.get("Authorization") != f"Bearer {self._key}":
                return error(401, "this key is not known")
            return await self._do_as_told(self.outage or self._next_word(number), request, body)
        finally:
            self._now -= 1

    async def _meet(self) -> None:
        """Whoever waited in vain lets all others go on, too."""
        if self._now >= self.together:
            self._met.set()
        if self.asked.total() > 1:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._met.wait(), 60)
            self._met.set()

    def _next_word(self, number: int) -> str:
        words = self._told.get(number, [])
        if len(words) == 2 and words[1] == FOR_EVER:
            return words[0]
        if words or number == GREY:
            return words.pop(0) if words else "answer"
        word = next(self.words)
        if word == OUTAGE:
            self.outage = word = "http_500"
        return word

    async def _do_as_told(self, word: str, request: web.Request, body: dict) -> web.StreamResponse:
        if word in DEEDS:
            return await DEEDS[word](request)
        if word.startswith("http_"):
            status, _, after = word.removeprefix("http_").partition(" after ")
            return error(int(status), f"told to say {status}", {"Retry-After": after} if after else {})
        if body["model"] != MODEL:
            return error(404, f"The model `{body['model']}` does not exist.")
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
        if self.strict and schema and schema.get("additionalProperties") is not False:
            return error(400, "'additionalProperties' is required to be supplied and to be false")
        return web.json_response(CHANGES.get(word, dict)(completion(self.caption(body))))


def picture_of(body: dict) -> np.ndarray:
    (part,) = (part for part in body["messages"][0]["content"] if part["type"] == "image_url")
    data = base64.b64decode(part["image_url"]["url"].removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def number_of(body: dict) -> int:
    """The picture's; the grey one's where only a text was asked about."""
    if isinstance(body["messages"][0]["content"], str):
        return GREY
    red, green, _ = picture_of(body)[0, 0].tolist()
    return red * 256 + green


def fingerprint_of(body: dict) -> str:
    """A caption that no other picture has; of a text alone, an answer that no other text has."""
    content = body["messages"][0]["content"]
    asked = content.encode() if isinstance(content, str) else picture_of(body).tobytes()
    return hashlib.sha256(asked).hexdigest()


def completion(text: str | None) -> dict:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22},
    }


def error(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status, headers=headers)


async def raw(request: web.Request, data: bytes) -> web.StreamResponse:
    """These bytes as they are, and the connection ends."""
    transport = request.transport
    assert transport is not None
    transport.write(data)
    transport.close()
    await asyncio.sleep(3600)
    raise AssertionError("unreachable")


async def hang(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError("unreachable")


async def flood(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        for _ in range(64):
            await response.write(b" " * (1 << 20))
    return response


def text_answer(text: str, kind: str = "application/json") -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type=kind)

    return answer


def bytes_answer(data: bytes) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await raw(request, data)

    return answer


_WHOLE = json.dumps(completion("picture 0"))
DEEDS = {
    "nothing": bytes_answer(b""),
    "hang": hang,
    "flood": flood,
    "empty": text_answer(""),
    "garbage": text_answer("\x00\x01{{{"),
    "page": text_answer("<html>Sign in</html>", "text/html"),
    "cut": bytes_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + _WHOLE[:60].encode()),
    "cut json": text_answer(_WHOLE[:60]),
    "no gzip": bytes_answer(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nno gzip!!"),
    "long header": bytes_answer(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\nContent-Length: 2\r\n\r\n{}"),
    "no http": bytes_answer(b"SSH-2.0-OpenSSH_9.7\r\n"),
    "list": text_answer("[1, 2]"),
    "no choices": text_answer('{"choices": []}'),
    "half a character": text_answer(_WHOLE.replace("picture 0", "\\ud83d")),
    "wrong types": text_answer(_WHOLE.replace('"picture 0"', "17")),
    "wrong counts": text_answer(_WHOLE.replace("22", "22").replace(": 20,", f": {10**30},")),
    "abort": text_answer(_WHOLE.replace('"stop"', '"abort"')),
    "error": text_answer(_WHOLE.replace('"stop"', '"error"')),
    "error in 200": text_answer('{"error": {"message": "no worker is free"}}'),
}
"""Answers that are none."""


def with_message(message: dict) -> Callable[[dict], dict]:
    return lambda answer: answer | {"choices": [answer["choices"][0] | {"message": message}]}


CHANGES: dict[str, Callable[[dict], dict]] = {
    "wrong model": lambda answer: answer | {"model": "other/model"},
    "no words": with_message({"role": "assistant", "content": None}),
    "refusal": with_message({"role": "assistant", "content": None, "refusal": "I cannot say."}),
    "parts": with_message({"content": [{"type": "text", "text": " in "}, {"type": "text", "text": "parts "}]}),
    "no usage": lambda answer: {name: value for name, value in answer.items() if name not in ("usage", "model")},
}
"""Answers that are unusual."""
