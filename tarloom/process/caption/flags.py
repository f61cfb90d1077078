"""What is wrong with many captions, told by a look at their text: flags to filter by, never a reason to drop a row."""

import re
from dataclasses import dataclass

_REFUSALS = re.compile(
    r"""^\W*(?:
        (?:i['’]?m|i\sam|we\sare)\s(?:(?:very|so|really|terribly)\s)?(?:sorry|unable|not\sable|afraid)
        | sorry\b | unfortunately,?\si\b | i\sapologi[sz]e
        | i\s(?:really\s)?(?:can['’]?t|cannot|can\snot|could\snot|couldn['’]?t|won['’]?t|will\snot|must\sdecline)
            \s(?:help|assist|provide|describe|identify|answer|process|analy[sz]e|view|see|fulfill?|comply|do|create|generate)
        | as\san?\s(?:ai|artificial|(?:large\s)?language)\b
        | i\s(?:do\snot|don['’]?t)\shave\sthe\s(?:ability|capability)
        | there\s(?:is|was)\sno\s(?:image|picture|photo)\s(?:provided|attached|given|to\s(?:see|describe))
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_TIMES = 4
"""So often in a row, a phrase is no figure of speech but a model that has lost its thread."""
_LONGEST_PHRASE = 32
"""Words of the longest phrase that is looked for."""
_WORDS = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Of one caption."""

    truncated: bool
    """It ended because max_tokens were spent."""
    empty: bool
    """It has no letter and no digit."""
    repeated: bool
    """The same words come four times in a row or more often."""
    refused: bool
    """The model says that it cannot or will not."""


def flags(text: str, finish_reason: str | None) -> Flags:
    """What is wrong with a caption, as far as its words tell."""
    return Flags(
        truncated=finish_reason == "length",
        empty=not any(letter.isalnum() for letter in text),
        repeated=_repeats(_WORDS.findall(text.lower())),
        refused=_REFUSALS.match(text) is not None,
    )


def _repeats(words: list[str]) -> bool:
    """Whether some phrase, of one word or of several, follows itself until it has been said four times."""
    for length in range(1, min(_LONGEST_PHRASE, len(words) // _TIMES) + 1):
        equal = 0
        for here, before in zip(words[length:], words, strict=False):
            equal = equal + 1 if here == before else 0
            if equal == length * (_TIMES - 1):
                return True
    return False
