"""Command lines as words: which options they give, and which words are theirs, before they are parsed."""

import dataclasses
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence, Set
from itertools import pairwise
from typing import Any, get_args, get_type_hints

PREFIXED = "prefixed"
"""In a field's metadata: the options of this group are called --NAME.option, by this name; others by their own."""
BARE = ("path", "sql")
"""Options that bare words are given to, in this order, where a command has them: PATH is --path PATH."""
_OPTION = re.compile(r"--|--?[a-z][\w.-]*(=.*)?", re.IGNORECASE | re.DOTALL)
"""Other words that begin with a dash are values, such as -1 or SQL with a comment in front."""


def value_of(option: str, words: Sequence[str]) -> str | None:
    """What these words give the option, before it is known which others there are; the last time counts."""
    found = None
    for number, word in enumerate(words):
        _, equals, value = word.partition("=")
        if f"--{option_of(word)}" == option:
            found = value if equals else next(iter(words[number + 1 :]), None)
    return found


def option_of(word: str) -> str:
    """The name of the option that a word of the command line begins with, as we write it; "" for other words."""
    return word.partition("=")[0][2:].replace("_", "-") if word.startswith("--") else ""


def options_in(words: Sequence[str]) -> set[str]:
    """The options that these words give; --no-x gives x, too."""
    return {option_of(word).removeprefix("no-") for word in words} - {""}


def counted(number: int, what: str) -> str:
    """1 shard, 2 shards."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def again(mode: str | None) -> str:
    """What is said where a run may go on. mode: --incremental-mode, as overwriting once more would throw away what is
    done."""
    return "run the same command again" + (", but without --incremental-mode overwrite" if mode == "overwrite" else "")


def without(options: Set[str], words: Sequence[str]) -> list[str]:
    """The words but for these options and their values."""
    return [word for group in _by_option(words) if not options & options_in(group[:1]) for word in group]


def options_of(kind: type, prefix: str = "") -> Iterator[tuple[str, "dataclasses.Field[Any]", Any]]:
    """All options, at any depth of nesting: names with what stands in front of them, fields, and types."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            inner = f"{field.metadata[PREFIXED]}." if PREFIXED in field.metadata else prefix
            yield from options_of(hints[field.name], inner)
        else:
            yield prefix + field.name, field, hints[field.name]


def bare_options(kind: type) -> dict[str, "dataclasses.Field[Any]"]:
    """The options of a command that may be given as bare words, in the order of these."""
    known = {name: field for name, field, _ in options_of(kind)}
    return {name: known[name] for name in BARE if name in known}


def named(options: type, words: Sequence[str]) -> list[str]:
    """The words, with its name in front of each bare word that is the value of an option: PATH becomes --path=PATH."""
    names = bare_options(options)
    if not names:
        return list(words)
    groups = list(_with_values(options, words))
    given = {name for name, _ in groups}
    free = iter([name for name in names if name not in given])
    found = list[str]()
    for name, group in groups:
        wanted = None if name else next(free, None)
        found += [f"--{wanted}={group[0]}"] if wanted else group
    return found


def _with_values(options: type, words: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Options by their names, each with its values, and bare words, each alone. After "--" all words are bare."""
    known = {name.replace("_", "-"): takes(field, hint) for name, field, hint in options_of(options)}
    known |= {_denied(name): 0 for name, most in known.items() if most == 0}
    begin = 0
    while begin < len(words):
        word, end = words[begin], begin + 1
        if word == "--":
            yield from (("", [bare]) for bare in words[end:])
            return
        name = (option_of(word) or word) if _OPTION.fullmatch(word) else ""
        most = known.get(name, math.inf) if name and "=" not in word else 0  # of an unknown one nobody knows
        while end < len(words) and end - begin <= most and not _OPTION.fullmatch(words[end]):
            end += 1
        yield name, words[begin:end]
        begin = end


def takes(field: "dataclasses.Field[Any]", hint: Any) -> float:
    """How many words are an option's values, at most."""
    if hint is bool and field.default is not dataclasses.MISSING:
        return 0
    return math.inf if _is_list(hint) else 1


def _denied(name: str) -> str:
    """What switches off an option, which may stand in a group: --no-x, --group.no-x."""
    group, dot, last = name.rpartition(".")
    return f"{group}{dot}no-{last}"


def together(options: type, words: Sequence[str]) -> list[str]:
    """The words, with all values of a list behind its name, once, where it is given several times."""
    lists = {name.replace("_", "-") for name, _, hint in options_of(options) if _is_list(hint)}
    groups = _by_option(words)
    times = Counter(option_of(group[0]) for group in groups)
    found, values = list[str](), defaultdict[str, list[str]](list)
    for first, *others in groups:
        name = option_of(first)
        if name not in lists or times[name] == 1:
            found += [first, *others]
        else:  # what stands behind "=" is all that it is given
            _, equals, value = first.partition("=")
            values[name] += [value] if equals else others
            found += others if equals else []
    return [*found, *(word for name, given in values.items() for word in (f"--{name}", *given))]


def _by_option(words: Sequence[str]) -> list[Sequence[str]]:
    """The words, cut in front of every option; what stands before the first is alone."""
    begins = [0, *(number for number, word in enumerate(words) if word.startswith("--"))]
    return [words[begin:end] for begin, end in pairwise([*begins, len(words)]) if begin < end]


def _is_list(hint: Any) -> bool:
    """Whether any number of values are given: tuple[str, ...], or that or None."""
    return Ellipsis in get_args(hint) or any(Ellipsis in get_args(kind) for kind in get_args(hint))
