"""Which failures may pass, by their names: for the fetcher's next try, and for runs that fetch failed rows again."""

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers of web servers that may be others later."""
TRANSIENT_NAMES = frozenset({"body_cut_short", "connect", "dns", "proxy", "timeout"}) | {
    f"http_{status}" for status in TRANSIENT_STATUSES
}


def may_pass(name: str) -> bool:
    """Whether a row that failed with this error (docs/errors.md) may be fetched another day.

    A host without an address is asked for again within a run only if the name server says so; later it may have one.
    """
    return name in TRANSIENT_NAMES
