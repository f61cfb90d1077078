"""Markup that cannot be injected into: every text becomes an `Html` by being escaped, and only `Html` is put in as is.

Captions, URLs and error messages come from strangers. Control characters are made visible, and a page carries a policy
that lets a browser load nothing and run nothing, whatever slips through.
"""

import html
import unicodedata

LONGEST_TEXT = 600
"""Characters of a text that are shown; the rest is cut."""


class Html(str):
    """Text that is markup already."""


Child = str | int | float | None


def element(name: str, /, *children: Child, **attributes: Child) -> Html:
    """An element. Children and attributes of None are left out; a "_" after an attribute's name is dropped."""
    written = (
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{''.join(written)}>{join(*children)}</{name}>")


def void(name: str, /, **attributes: Child) -> Html:
    """An element without content or end tag."""
    return Html(element(name, **attributes).removesuffix(f"</{name}>"))


def join(*children: Child) -> Html:
    """Children one after the other, escaped where they are not markup."""
    return Html("".join(text(child) for child in children if child is not None))


def text(value: Child) -> Html:
    """A value as markup: escaped unless it is markup already."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(_printable(str(value))))


def cut(value: str, length: int = LONGEST_TEXT) -> str:
    """At most so many characters of a text."""
    return value if len(value) <= length else f"{value[: length - 1]}…"


def _printable(value: str) -> str:
    """Control and direction-changing characters as a visible replacement; line breaks and tabs stay."""
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co") else "\ufffd" for c in value
    )
