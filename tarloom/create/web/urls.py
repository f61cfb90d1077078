"""URLs as the list gives them. Percent-encodings are sent as they are: a signed URL encoded anew is another one.

Only what no request line may hold is encoded: spaces, control characters and what is not ASCII (as UTF-8; an
international host as IDNA). Fragments are dropped. A user and password before the host are sent to that host alone.
"""

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from yarl import URL

from tarloom.errors import FetchError

SCHEMES = ("http", "https")
PORTS = {"http": 80, "https": 443}
_PLAIN = re.compile(
    r"https?://(?!xn--)[a-z0-9-]{1,63}(?:\.(?!xn--)[a-z0-9-]{1,63})*(?::(?:[1-9][0-9]{1,3}|[1-5][0-9]{4}))?"
    r"(?:[/?][!-\"$-~]*)?",
    re.ASCII,
)
"""What needs no second look; most URLs are such."""
_HOST = re.compile(r"[a-z0-9._-]+", re.ASCII)
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:", re.ASCII)
_BEHIND_BRACKETS = re.compile(r"\][^:]")
"""Of an address: some versions of Python pass it over, others do not."""
_TO_ENCODE = re.compile(r"[^!-~]")


class Origin(NamedTuple):
    """What counts as one host: its limits, its circuit and its robots.txt are its own."""

    scheme: str
    host: str
    port: int


def parse_url(text: str | None) -> URL:
    """The URL, fit to be sent. Raises FetchError bad_url or scheme_refused."""
    if not text:
        raise FetchError("bad_url", "the row has no URL")
    if _PLAIN.fullmatch(text):
        return URL(text, encoded=True)
    try:
        return _parsed(text.strip())
    except ValueError as error:
        raise FetchError("bad_url", "not a valid URL") from error


def redirected(url: URL, location: str) -> URL:
    """Where a redirect leads; a user and password stay with their host. Raises FetchError as parse_url."""
    location = location.strip()
    try:
        found = parse_url(location if _ABSOLUTE.match(location) else urljoin(str(url), location))
    except ValueError as error:
        raise FetchError("bad_url", "a redirect to what is not a valid URL") from error
    user = url.raw_authority.rpartition("@")[0]
    if not user or "@" in found.raw_authority or origin_of(found) != origin_of(url):
        return found
    return URL(str(found).replace("://", f"://{user}@", 1), encoded=True)


def origin_of(url: URL) -> Origin:
    """The URL's scheme, host and port."""
    return Origin(url.scheme, url.raw_host or "", url.port or PORTS[url.scheme])


def path_of(url: URL) -> str:
    """Path and query, as they are sent."""
    return url.raw_path_qs or "/"


def _parsed(text: str) -> URL:
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES:
        raise FetchError("scheme_refused" if parts.scheme else "bad_url", "only http and https are fetched")
    if not parts.hostname or _BEHIND_BRACKETS.search(parts.netloc):
        raise FetchError("bad_url", "the URL has no host")
    if ":" in unquote(parts.netloc.rpartition("@")[0].partition(":")[0]):
        raise FetchError("bad_url", "basic authentication knows no user name with a colon")
    port = "" if parts.port is None else f":{parts.port}"
    user = percent_encoded(parts.netloc.rpartition("@")[0])
    path = percent_encoded(parts.path if parts.path.startswith("/") or not parts.query else "/" + parts.path)
    query = f"?{percent_encoded(parts.query)}" if parts.query else ""
    return URL(f"{parts.scheme}://{user}{'@' if user else ''}{_host(parts.hostname)}{port}{path}{query}", encoded=True)


@lru_cache(maxsize=4096)
def _host(host: str) -> str:
    """As it stands in a URL: an address in brackets, an international name as IDNA."""
    found = URL.build(scheme="http", host=host)
    text = found.host_subcomponent or ""
    if found.host is None or not (_HOST.fullmatch(text) or text.startswith("[")):  # decoded here, if international
        raise ValueError(f"no host: {host}")
    return text


def percent_encoded(text: str) -> str:
    """The text as it can be sent. What is encoded already stays as it is."""
    return _TO_ENCODE.sub(lambda found: "".join(f"%{byte:02X}" for byte in _bytes(found[0])), text)


def _bytes(text: str) -> bytes:
    """UTF-8. Headers are read as UTF-8 too; what is none is kept in surrogates, and goes back as it came."""
    return text.encode("utf-8", "surrogateescape")
