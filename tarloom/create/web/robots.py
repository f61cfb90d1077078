"""What a robots.txt allows to one robot, as RFC 9309 has it. No I/O: see consent.py for asking and keeping."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

from tarloom.create.web.urls import percent_encoded

MAX_BYTES = 500 * 1024
"""What lies beyond is not read."""
_LINE_ENDS = re.compile(r"\r\n|\r|\n")
_PRODUCT = re.compile(r"[^\s/]+")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One line of a group: paths that match are allowed, or not."""

    pattern: str
    """`*` stands for any characters, a `$` at its end for the path's end; else a path's beginning."""
    allows: bool

    @property
    def is_plain(self) -> bool:
        """The pattern is just a path's beginning."""
        return "*" not in self.pattern and not self.pattern.endswith("$")

    def matches(self, path: str) -> bool:
        """path: as `comparable_path` returns it."""
        pieces = self.pattern.removesuffix("$").split("*")
        if not path.startswith(pieces[0]):
            return False
        place = len(pieces[0])
        if self.pattern.endswith("$"):
            last = pieces.pop()
            if not pieces:
                return path == last
            if not path.endswith(last):
                return False
            path = path[: len(path) - len(last)]
            if place > len(path):
                return False
        for piece in pieces[1:]:
            found = path.find(piece, place)
            if found < 0:
                return False
            place = found + len(piece)
        return True


class Rules:
    """Rules in their order: the first that matches a path holds for it.

    Plain ones are looked up by the path's beginnings: files of ten thousands of rules would else stop the event loop.
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._plain: dict[str, tuple[int, bool]] = {}
        self._others: dict[str, tuple[int, Rule]] = {}
        for place, rule in enumerate(rules):
            if rule.is_plain:
                self._plain.setdefault(rule.pattern, (place, rule.allows))
            else:
                self._others.setdefault(rule.pattern, (place, rule))
        self._lengths = sorted({len(start) for start in self._plain})

    def __len__(self) -> int:
        return len(self._plain) + len(self._others)

    def allow(self, path: str, *, otherwise: bool) -> bool:
        """What the first rule says that matches. path: as `comparable_path` returns it."""
        starts = (path[:length] for length in self._lengths if length <= len(path))
        found = [self._plain[start] for start in starts if start in self._plain]
        first, says = min(found, default=(inf, otherwise))
        for place, rule in self._others.values():
            if place > first:
                break
            if rule.matches(path):
                return rule.allows
        return says


@dataclass(frozen=True, kw_only=True)
class Robots:
    """The rules for one robot, the most specific first."""

    rules: Rules = field(default_factory=Rules)

    def allows(self, path: str) -> bool:
        """Whether the robot may ask for a path (with its query): the longest rule that matches says so."""
        return path == "/robots.txt" or self.rules.allow(comparable_path(path), otherwise=True)


def parse_robots(data: bytes, product: str) -> Robots:
    """The rules of all groups that name the robot's product token, else of those for `*`. Never fails."""
    groups: dict[str, list[Rule]] = {product.lower(): [], "*": []}
    named: set[str] = set()
    for names, rules in _groups(_whole_lines(data).removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")):
        for name in names & groups.keys():
            groups[name] += rules
            named.add(name)
    rules = groups[product.lower() if product.lower() in named else "*"]
    return Robots(rules=Rules(sorted(rules, key=lambda rule: (-len(rule.pattern), not rule.allows))))


def _whole_lines(data: bytes) -> bytes:
    """As much as is read, in whole lines."""
    if len(data) <= MAX_BYTES:
        return data
    end = max(data.rfind(b"\n", 0, MAX_BYTES), data.rfind(b"\r", 0, MAX_BYTES))
    return data[: max(0, end)]


def comparable(path: str) -> str:
    """A path or pattern in the one form in which they are compared: what may stand for itself does, and the rest is
    percent-encoded."""
    return _ESCAPE.sub(lambda found: _plain(found[0]), percent_encoded(path))


def comparable_path(path: str) -> str:
    """A path in that form. What has a meaning in patterns has none in it."""
    return comparable(path).replace("*", "%2A").replace("$", "%24")


def comparable_pattern(pattern: str) -> str:
    """A rule's pattern in that form. A dollar sign anywhere but at the end stands for itself."""
    start, end = (pattern[:-1], "$") if pattern.endswith("$") else (pattern, "")
    return comparable(start).replace("$", "%24") + end


def _groups(text: str) -> Iterator[tuple[set[str], list[Rule]]]:
    names: set[str] = set()
    rules: list[Rule] = []
    began = False
    """A rule was seen since the last name: the next name begins another group."""
    for key, value in _records(text):
        if key == "user-agent":
            if began:
                yield names, rules
                names, rules, began = set(), [], False
            names |= {found[0].lower() for found in [_PRODUCT.match(value)] if found}
        elif key in ("allow", "disallow"):
            began = True
            if value and names:
                rules.append(Rule(pattern=comparable_pattern(value), allows=key == "allow"))
    yield names, rules


def _records(text: str) -> Iterator[tuple[str, str]]:
    for line in _LINE_ENDS.split(text):
        key, colon, value = line.partition("#")[0].partition(":")
        if colon:
            yield key.strip().lower(), value.strip()


def _plain(escape: str) -> str:
    character = chr(int(escape[1:], 16))
    return character if _UNRESERVED.fullmatch(character) else escape.upper()
