"""Whether the owner of a picture lets it be used: X-Robots-Tag, and robots.txt and TDM reservation where asked for.

A wish is a permanent failure, opted_out. robots.txt (RFC 9309) and /.well-known/tdmrep.json (TDMRep) are asked for once
a host and kept for a day.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from yarl import URL

from tarloom.create.config import ConsentOptions
from tarloom.create.web.robots import MAX_BYTES, Robots, Rule, Rules, comparable_path, comparable_pattern, parse_robots
from tarloom.create.web.shared import Shared
from tarloom.create.web.transport import Answer, Check, Headers
from tarloom.create.web.urls import Origin, origin_of, path_of
from tarloom.errors import FetchError

PRODUCT = "tarloom"
"""The name by which robots.txt may address us, unless another is given."""
HOME = "https://pypi.org/project/tarloom/"
KEPT_SECONDS = 24 * 3600.0
KEPT_FAILED_SECONDS = 300.0
KEPT_RULES = 200_000
"""Of all hosts together; those of the hosts that were asked first are forgotten."""
_VALUED = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
"""Directives of X-Robots-Tag that have a colon of their own."""
_TOKEN = re.compile(r"\s*([^\s:,]+)\s*:(.*)", re.DOTALL)

LONG = 64 << 10
"""Bytes of a file that would take long to parse, while other hosts' deadlines run out."""

Said = TypeVar("Said")
"""What a host's file says."""
Ask = Callable[[URL], Awaitable[Answer]]
"""Gets a small file, redirects followed. Raises FetchError."""


class Consent:
    """What the owners of pictures want. `ask` is how their files are had."""

    def __init__(self, options: ConsentOptions, ask: Ask) -> None:
        self._ask = ask
        self._token = (options.user_agent_token or PRODUCT).lower()
        self._forbidding = {directive.strip().lower() for directive in options.disallowed_header_directives}
        self._robots = _shared(self._load_robots, _rules_in_robots) if options.robots_txt else None
        self._reservations = _shared(self._load_reservations, len) if options.tdm_reservation else None

    async def check_of(self, url: URL) -> Check:
        """What to hold against the headers of this URL's answer. Raises FetchError where it may not be asked for."""
        if self._robots is not None:
            robots = await self._robots.get(origin_of(url))
            if isinstance(robots, FetchError):
                raise FetchError(robots.name, robots.reason, transient=robots.transient)
            if not robots.allows(path_of(url)):
                raise FetchError("opted_out", "robots.txt disallows it")
        if self._reservations is None:
            return self._check_robots_tags
        reserved = is_reserved(await self._reservations.get(origin_of(url)), path_of(url))

        def check(status: int, headers: Headers) -> None:
            self._check_robots_tags(status, headers)
            _check_reservation(status, headers, reserved)

        return check

    def close(self) -> None:
        """Leave what is under way."""
        for files in (self._robots, self._reservations):
            if files is not None:
                files.cancel()

    def _check_robots_tags(self, status: int, headers: Headers) -> None:
        if status != 200 or not self._forbidding:
            return
        for value in headers.getall("X-Robots-Tag", ()):
            forbidding = [name for name in directives_for(value, self._token) if name in self._forbidding]
            if forbidding:
                raise FetchError("opted_out", f"X-Robots-Tag says {forbidding[0]}")

    async def _load_robots(self, origin: Origin) -> tuple[Robots | FetchError, float]:
        """An absent file allows all. One that cannot be had allows nothing; where the host is not there at all, its
        rows are named for that."""
        try:
            answer = await self._ask(_at(origin, "/robots.txt"))
        except FetchError as error:
            return _unreadable_robots(error)
        if answer.status >= 500:
            return FetchError("opted_out", "robots.txt cannot be read"), KEPT_FAILED_SECONDS
        return await _parsed(parse_robots, answer.body, self._token), KEPT_SECONDS

    async def _load_reservations(self, origin: Origin) -> tuple[Rules, float]:
        """A file that cannot be had, or says nothing that can be understood, reserves nothing."""
        try:
            answer = await self._ask(_at(origin, "/.well-known/tdmrep.json"))
        except FetchError as error:
            return Rules(), KEPT_FAILED_SECONDS if error.transient else KEPT_SECONDS
        return await _parsed(parse_reservations, answer.body), KEPT_SECONDS


def _shared(
    load: Callable[[Origin], Awaitable[tuple[Said, float]]], count: Callable[[Said], int]
) -> Shared[Origin, Said]:
    return Shared(load, weigh=lambda rules: 1 + count(rules), weight_at_most=KEPT_RULES)


async def _parsed(parse: Callable[..., Said], data: bytes, *more: str) -> Said:
    if len(data) < LONG:
        return parse(data, *more)
    return await asyncio.to_thread(parse, data, *more)


def _rules_in_robots(robots: Robots | FetchError) -> int:
    return 0 if isinstance(robots, FetchError) else len(robots.rules)


def honest_user_agent(user_agent: str, token: str | None) -> str:
    """How the run introduces itself: its user agent and, in parentheses, the name that owners may address it by."""
    return f"{user_agent} (compatible; {token}; +{HOME})" if token else user_agent


def directives_for(value: str, token: str) -> list[str]:
    """The directives of one X-Robots-Tag header that hold for a robot: those for all, or for its token. `none` is short
    for two others."""
    addressed = _TOKEN.fullmatch(value)
    if addressed and addressed[1].lower() not in _VALUED:
        if addressed[1].lower() != token:
            return []
        value = addressed[2]
    directives = [directive.strip().lower() for directive in value.split(",")]
    return [*directives, "noindex", "nofollow"] if "none" in directives else directives


def parse_reservations(data: bytes) -> Rules:
    """What a tdmrep.json says: a rule that "allows" reserves. Never fails."""
    try:
        found = json.loads(_whole_entries(data))
    except (ValueError, RecursionError):
        return Rules()
    rules = [_reservation(entry) for entry in found] if isinstance(found, list) else []
    return Rules(rule for rule in rules if rule is not None)


def is_reserved(rules: Rules, path: str) -> bool:
    """What the first rule says that matches a path."""
    return rules.allow(comparable_path(path), otherwise=False)


def _whole_entries(data: bytes) -> bytes:
    """As much as is read."""
    return data if len(data) <= MAX_BYTES else data[: data.rfind(b"}", 0, MAX_BYTES) + 1] + b"]"


def _reservation(entry: Any) -> Rule | None:
    if not isinstance(entry, dict) or not isinstance(location := entry.get("location"), str):
        return None
    value = entry.get("tdm-reservation")
    if isinstance(value, bool) or str(value) not in ("0", "1"):
        return None
    if not location.isprintable():  # JSON can hold halves of characters
        return None
    return Rule(pattern=comparable_pattern(location), allows=str(value) == "1")


def _check_reservation(status: int, headers: Headers, reserved: bool) -> None:
    """The header says more than the file."""
    said = headers.get("tdm-reservation", "").strip()
    if status == 200 and (said == "1" or (reserved and said != "0")):
        raise FetchError("opted_out", "text and data mining is reserved (TDMRep)")


def _unreadable_robots(error: FetchError) -> tuple[Robots | FetchError, float]:
    if error.name in ("too_many_redirects", "http_408", "http_425", "http_429"):
        return Robots(), KEPT_SECONDS
    if error.name in ("dns", "connect", "tls", "timeout", "proxy", "refused_private_address"):
        return error.alone(), KEPT_FAILED_SECONDS
    return FetchError("opted_out", "robots.txt cannot be read"), KEPT_FAILED_SECONDS


def _at(origin: Origin, path: str) -> URL:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return URL(f"{origin.scheme}://{host}:{origin.port}{path}", encoded=True)
