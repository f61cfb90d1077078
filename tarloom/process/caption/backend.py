"""What answers questions, with a picture or without: an engine in this process, or a server. All look the same."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tarloom.format.sidecar import SUCCESS

PROMPT_REFUSED = "prompt_refused"
"""The model does not take this prompt, or this picture with it: too long for it, or of a shape it cannot see."""
BROKEN_OFF = frozenset({"abort", "error"})
"""Finish reasons for what is no answer: an engine that stops or fails ends what is under way as far as it is."""
PROBE_SIDE = 224


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, and about which picture, if about one."""

    prompt: str
    rgb: np.ndarray | None = None
    """uint8 of shape (height, width, 3), small enough for the model."""
    uuid: str = ""
    """Of the picture: equal for equal pixels, so that nobody need hash them again."""
    schema: dict[str, Any] | None = None
    """JSON schema that the answer must fit; None for free text."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What came of one question."""

    text: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    ending: tuple[str, str | None] = field(default=(SUCCESS, None))


class Backend(Protocol):
    """Answers questions, many at a time. Safe to use from several threads."""

    def ask(self, questions: Sequence[Question]) -> list[Said]:
        """Answers in order. What a question is refused for is its own row's ending.

        Raises WorkerBroken where no further question can be answered by this backend.
        """
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


def of_grey(prompt: str) -> Question:
    """About a grey picture."""
    return Question(rgb=np.full((PROBE_SIDE, PROBE_SIDE, 3), 128, np.uint8), prompt=prompt, uuid="grey")
