"""Proxies from the environment: http_proxy, https_proxy, all_proxy and no_proxy, in small or capital letters."""

from collections.abc import Mapping
from functools import cache
from ipaddress import ip_address, ip_network
from urllib.request import getproxies_environment

from yarl import URL

from tarloom.errors import UsageError

SCHEMES = ("http", "https")


class Proxies:
    """Which proxy, if any, stands before a URL."""

    def __init__(self, proxies: Mapping[str, str]) -> None:
        """proxies: as urllib reads them, by scheme; "no" lists the hosts that need none."""
        self._direct = [part.strip().lower() for part in proxies.get("no", "").split(",") if part.strip()]
        everything = proxies.get("all")
        self._by_scheme = {scheme: text for scheme in SCHEMES if (text := proxies.get(scheme, everything))}

    def __bool__(self) -> bool:
        return bool(self._by_scheme)

    def of(self, url: URL) -> URL | None:
        """The proxy to ask for this URL; None where it is asked for directly. Raises UsageError where it is none."""
        proxy = self._by_scheme.get(url.scheme)
        if proxy is None or any(_covers(entry, url) for entry in self._direct):
            return None
        return _proxy_url(url.scheme, proxy)

    def check(self) -> None:
        """Raises UsageError where the address of any is none."""
        for scheme, proxy in self._by_scheme.items():
            _proxy_url(scheme, proxy)


def proxies_of_environment() -> Proxies:
    """Not checked: of who asks for a single URL, the others are no concern."""
    return Proxies(getproxies_environment())


def checked_proxies() -> Proxies:
    """The environment's. Raises UsageError where the address of any is none."""
    proxies = proxies_of_environment()
    proxies.check()
    return proxies


@cache
def _proxy_url(scheme: str, text: str) -> URL:
    try:
        url = URL(text if "://" in text else f"http://{text}")
        host, user = url.host, url.user or ""
    except ValueError:
        url, host, user = URL(), None, ""
    if url.scheme not in SCHEMES or not host or ":" in user:  # which basic authentication cannot say
        raise UsageError(
            f"{scheme}_proxy is not the address of an HTTP proxy; write it as http://HOST:PORT, or unset it"
        )
    return url


def _covers(entry: str, url: URL) -> bool:
    """Whether an entry of no_proxy (*, a domain, an address, a network; a port may follow) holds for a URL."""
    host = (url.host or "").rstrip(".")
    domain, colon, port = entry.rpartition(":")
    if colon and port.isdecimal() and (":" not in domain or domain.endswith("]")):
        return int(port) == url.port and _covers(domain, url)
    name = entry.strip("[]").removeprefix("*").lstrip(".")
    return not name or host == name or host.endswith(f".{name}") or _is_within(host, name)


def _is_within(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
