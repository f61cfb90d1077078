"""The OpenAI protocol of chat completions, as far as stages need it: address, key, what is sent, what answers say.

No I/O lives here: whatever asks a server stands on it.
"""

import base64
import io
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from tarloom.errors import FetchError, UsageError
from tarloom.process.caption.backend import BROKEN_OFF, Question, Said

if TYPE_CHECKING:
    from tarloom.process.caption.language import LanguageStage

BAD_ANSWER = "bad_answer"
"""The server said 200, and what it sent is no chat completion, or one that it broke off."""
WRONG_MODEL = "wrong_model"
"""It answered by another model than it did at first."""
_COMPLETIONS = "/chat/completions"


def base_url(endpoint: str) -> str:
    """The address below which the server's protocol lies, without a slash at its end. Raises UsageError.

    What people paste is taken: a bare host gets /v1, and the address of the completions themselves loses its end.
    """
    try:
        parts = urlsplit(endpoint.strip())
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if "@" in (parts.netloc if sound else endpoint):  # of what is no address any part may be a password's
        raise UsageError("the server's address holds a password, which messages would show; use --api-key-env")
    if not sound or parts.query or parts.fragment:
        shown = endpoint.strip().partition("#")[0].partition("?")[0]  # behind these there may be a key
        raise UsageError(
            f"{shown}: not the address of a server, without ? and #; give one such as http://localhost:8000/v1"
        )
    path = parts.path.rstrip("/").removesuffix(_COMPLETIONS) or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


def headers(key_variable: str | None) -> dict[str, str]:
    """What every request says besides its body. Raises UsageError where the key's variable is empty on this machine."""
    said = {"Content-Type": "application/json"}
    if key_variable is not None:
        key = os.environ.get(key_variable, "").strip()
        if not key:
            raise UsageError(f"{key_variable} is not set here; put the server's key into this environment variable")
        if not (key.isascii() and key.isprintable()):
            raise UsageError(f"{key_variable}: holds a line break, or what else no key has; put the server's key there")
        said["Authorization"] = f"Bearer {key}"
    return said


def request(stage: "LanguageStage", question: Question) -> dict[str, Any]:
    """What the server is sent. Options that are off are left out: not every server knows all of them."""
    messages = [{"role": "user", "content": _content(stage, question)}]
    body: dict[str, Any] = {"model": stage.model, "messages": messages, **stage.sampling()}
    if question.schema is not None:
        named = {"name": "caption", "schema": question.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return body


def encoded(stage: "LanguageStage", question: Question) -> bytes:
    """The request as it is sent."""
    return json.dumps(request(stage, question)).encode()


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A chat completion."""

    said: Said
    model: str | None
    """Which one the server says it was."""


def reply(body: bytes) -> Reply:
    """What a server's answer says. Raises FetchError."""
    if not body:
        raise FetchError("empty_body", "the server sent no bytes", transient=True)
    try:
        answer = json.loads(body)
        said = _said(answer["choices"][0], answer.get("usage") or {})
        model = _word(answer.get("model"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise FetchError(BAD_ANSWER, "what the server sent is no chat completion", transient=True) from error
    if said.finish_reason in BROKEN_OFF:
        raise FetchError(BAD_ANSWER, f"the server broke off its answer ({said.finish_reason})", transient=True)
    return Reply(said=said, model=model)


def complaint(body: bytes, key: str = "") -> str:
    """What a server says of a request that it does not take, in its own words; empty where it has none.

    key: is left out, should the server repeat it.
    """
    try:
        answer = json.loads(body)
        error = answer.get("error", answer)
        told = str(error["message"] if isinstance(error, dict) else error)
        return " ".join((told.replace(key, "[key]") if key else told).split())[:300]
    except (ValueError, LookupError, AttributeError, RecursionError):
        return ""


def _said(choice: dict[str, Any], usage: dict[str, Any]) -> Said:
    return Said(
        text=_text(choice["message"]).strip(),
        finish_reason=_word(choice.get("finish_reason")),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
    )


def _text(message: dict[str, Any]) -> str:
    """The caption; where there is none, the words with which the model refuses; some servers send it in parts."""
    content = message.get("content") or message.get("refusal") or ""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part.get("type") == "text")
    return _word(content) or ""


def _word(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} in place of a text")
    value.encode()  # JSON can spell halves of characters, which no column takes
    return value


def _count(value: Any) -> int | None:
    if value is not None and (type(value) is not int or not 0 <= value < 1 << 31):
        raise TypeError(f"{type(value).__name__} in place of a number of tokens")
    return value


def _content(stage: "LanguageStage", question: Question) -> str | list[dict[str, Any]]:
    if question.rgb is None:
        return question.prompt
    text = {"type": "text", "text": question.prompt}
    picture = {"type": "image_url", "image_url": {"url": _data_url(question.rgb)}}
    return [picture, text] if stage.picture_first else [text, picture]


def _data_url(rgb: np.ndarray) -> str:
    """The picture as a PNG, fast rather than small: no pixel differs from what an engine here would have seen."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
