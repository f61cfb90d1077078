"""How much of a prompt a model reads: counted in its tokens, and cut there where that is asked for."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Of the text encoder that reads furthest: where a pipeline has several, one that sees all is enough."""

    tokenizer: Any
    tokens: int
    """As many are read, with those that begin and end a text."""

    def count(self, text: str) -> int:
        """Tokens of the whole text."""
        return len(self.tokenizer(text, truncation=False, padding=False, verbose=False)["input_ids"])

    def cut(self, text: str) -> str:
        """As much of the text as is read."""
        told = {"truncation": True, "max_length": self.tokens, "padding": False}
        if not self.tokenizer.is_fast:
            return str(self.tokenizer.decode(self.tokenizer(text, **told)["input_ids"], skip_special_tokens=True))
        spans = self.tokenizer(text, return_offsets_mapping=True, **told)["offset_mapping"]
        return text[: max(end for _, end in spans)]


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
