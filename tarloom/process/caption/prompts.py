"""What a model is asked: one text or several with names, each perhaps with columns of the row in it.

`{caption}` stands for the row's value of that column, `{{` for a brace. Nothing is evaluated: what stands between the
braces is the column's whole name.
"""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tarloom.errors import UsageError
from tarloom.process.texts import text_of

Given = str | tuple[str, ...]
"""One prompt, or several as NAME=TEXT."""
NAMED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
"""NAME=TEXT."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One of the texts that a model is asked."""

    template: str
    name: str | None = None
    """Of its columns; None where there is but one prompt, whose column is `text`."""

    @cached_property
    def _parts(self) -> list[tuple[str, str | None]]:
        """Text, and the column that follows it. Raises UsageError."""
        try:
            parts = list(string.Formatter().parse(self.template))
        except ValueError as error:
            raise self._wrong(str(error)) from error
        for _, column, form, conversion in parts:
            if column is not None and (form or conversion or not column.strip() or column.isdecimal()):
                raise self._wrong("between braces stands a column's name, such as {caption}, and no more")
        return [(text, column) for text, column, _, _ in parts]

    def check(self) -> None:
        """Raises UsageError for braces that hold no column's name."""
        self.columns  # noqa: B018 - read now rather than in a worker

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that the text wants to see, in order. Raises UsageError."""
        return tuple(dict.fromkeys(column for _, column in self._parts if column is not None))

    def filled(self, values: Mapping[str, Any]) -> str:
        """The text for one row. A column that is null there leaves nothing."""
        return "".join(text if column is None else text + _value(values.get(column)) for text, column in self._parts)

    def _wrong(self, why: str) -> UsageError:
        return UsageError(f"prompt {self.template!r}: {why}; write {{{{ and }}}} for braces of the text itself")


def read_prompts(given: Given) -> tuple[Prompt, ...]:
    """The prompts as the user gives them. Raises UsageError."""
    texts = (given,) if isinstance(given, str) else given
    prompts = tuple(_prompt(text) for text in texts)
    if not prompts or not all(prompt.template.strip() for prompt in prompts):
        raise UsageError("the prompt is empty; say what the model should do, such as --prompt 'Describe the image.'")
    names = [prompt.name for prompt in prompts]
    if len(prompts) > 1 and None in names:
        nameless = prompts[names.index(None)].template
        raise UsageError(f"prompt {nameless!r}: of several prompts each has a name; write --prompt NAME=TEXT NAME=TEXT")
    if len(set(names)) != len(names):
        raise UsageError(f"prompts {', '.join(map(str, names))}: each name may be there once")
    for prompt in prompts:
        prompt.check()
    return prompts


def _value(value: Any) -> str:
    return "" if value is None else text_of(value)


def _prompt(text: str) -> Prompt:
    named = NAMED.fullmatch(text)
    return Prompt(template=text) if named is None else Prompt(name=named[1], template=named[2])
