"""How much of a prompt a model reads: counted in its tokens, and cut there where that is asked for."""

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from threading import Lock
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Of the text encoder that reads furthest: where a pipeline has several, one that sees all is enough."""

    tokenizer: Any
    tokens: int
    """As many are read, with those that begin and end a text."""
    _tokenizing: Lock = field(default_factory=Lock)
    """The tokenizer keeps to what another thread has told it about lengths."""

    def count(self, text: str) -> int:
        """Tokens of the whole text."""
        with self._tokenizing:
            return len(self.tokenizer(text, truncation=False, padding=False, verbose=False)["input_ids"])

    def cut(self, text: str) -> str:
        """As many whole words of the text as are read; of a single long one, its beginning."""
        words = [word.end() for word in re.finditer(r"\S+", text)]
        for ends in (words, range(len(text))):
            read = bisect_right(ends, self.tokens, key=lambda end: self.count(text[:end]))
            if read:
                return text[: ends[read - 1]]
        return ""


def reach_of(parts: dict[str, Any], most: int | None) -> Reach | None:
    """Of a pipeline's parts; None where no encoder has a limit.

    most: tokens that the pipeline itself lets through to encoders of long texts.
    """
    reaches = []
    for name, tokenizer in parts.items():
        if name.startswith("tokenizer") and callable(tokenizer):
            encoder = parts.get(name.replace("tokenizer", "text_encoder"))
            reaches.append(Reach(tokenizer=tokenizer, tokens=_tokens(tokenizer, encoder, most)))
    furthest = max(reaches, key=lambda reach: reach.tokens, default=None)
    return furthest if furthest is not None and furthest.tokens < _UNLIMITED else None


_UNLIMITED = 1_000_000
"""Tokenizers without a limit name one like 1e30."""


def _tokens(tokenizer: Any, encoder: Any, most: int | None) -> int:
    config = getattr(encoder, "config", None)
    places = getattr(config, "max_position_embeddings", None)
    long = places is None or "clip" not in str(getattr(config, "model_type", ""))
    limits = [tokenizer.model_max_length, places, most if long else None]
    return int(min(limit for limit in limits if limit is not None))
