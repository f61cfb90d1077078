"""Clients of object stores: how long and how often they try."""

import os
from datetime import timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from obstore.store import from_url

RETRIES = 7
"""Of a request that failed: for some 5 to 10 seconds, with pauses that double."""
DEADLINE = timedelta(seconds=60)
"""A request that has failed again and again for so long is not tried again."""
STALL = timedelta(seconds=15)
"""An answer of which nothing has come for so long has failed."""
LONGEST = timedelta(minutes=10)
"""A whole request, however slow: obstore's own 30 seconds are too few for big ranges over slow lines."""

_PREFIXES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_", "abfs": "AZURE_", "abfss": "AZURE_"}
_OPTIONS = (
    *("allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only", "pool_idle_timeout"),
    *("proxy_ca_certificate", "proxy_excludes", "proxy_url", "read_timeout", "timeout", "user_agent"),
)
"""Of HTTP clients, that users may set in the environment: AWS_ALLOW_HTTP=true, GOOGLE_PROXY_URL=..."""


@lru_cache(maxsize=64)
def object_store(url: str) -> Any:
    """obstore's store for everything below a URL, in which a path is as it stands: "#", "?" and "%" are letters."""
    scheme, _, place = url.partition("://")
    prefix = _PREFIXES.get(scheme)
    if prefix is None:
        return from_url(url)
    bucket, slash, path = place.partition("/")
    retries: Any = {"max_retries": RETRIES, "retry_timeout": DEADLINE}
    quoted = f"{scheme}://{bucket}{slash}{quote(path)}"
    return from_url(quoted, retry_config=retries, client_options=_client_options(prefix))


def _client_options(prefix: str) -> Any:
    """Our timeouts, and what the environment says: obstore does not look there itself where any option is given."""
    names = {f"{prefix}{name.upper()}": name for name in _OPTIONS}
    given = {option: os.environ[name] for name, option in names.items() if name in os.environ}
    return {"read_timeout": STALL, "timeout": LONGEST, **given}
