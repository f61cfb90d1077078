"""Our names for what img2dataset says of rows that failed, in shards that it makes for us or has made before."""

import re
from collections.abc import Sequence

from tarloom.create.web.transient import TRANSIENT_STATUSES
from tarloom.errors import FetchError, ImageError, RowError
from tarloom.format.metadata import FAILED_TO_DOWNLOAD

MESSAGES: Sequence[tuple[str, RowError]] = (
    (r"X-Robots-Tag", FetchError("opted_out", "an X-Robots-Tag header forbids it")),
    (r"hash mismatch", FetchError("hash_mismatch", "the bytes do not have the hash that the list gives")),
    (r"infinite loop|redirect", FetchError("too_many_redirects", "redirected too often")),
    (r"timed out", FetchError("timeout", "not complete within the timeout", transient=True)),
    (r"Errno -3\b", FetchError("dns", "the name server has no answer now", transient=True)),
    (r"Errno -\d+|gaierror", FetchError("dns", "the host has no address")),
    (r"SSL|certificate", FetchError("tls", "no trusted TLS connection")),
    (r"IncompleteRead", FetchError("body_cut_short", "the body ended before its announced length", transient=True)),
    (r"unknown url|no host|control characters|nonnumeric port|Invalid", FetchError("bad_url", "not a valid URL")),
    (r"urlopen error|Connection|closed|Errno", FetchError("connect", "no connection, or it was lost", transient=True)),
    (r"Image decoding error", ImageError("not_an_image", "the bytes are no picture that OpenCV can decode")),
    (r"image too small", ImageError("too_small", "the shorter side is under min_image_size")),
    (r"image area too large", ImageError("area_too_large", "more pixels than max_image_area")),
    (r"aspect ratio too large", ImageError("aspect_ratio_too_large", "longer than max_aspect_ratio allows")),
)
"""What its messages mean: the first pattern that is found in one. A status code is asked for before these."""


def named_error(status: str, message: str) -> RowError:
    """Our name for what img2dataset says of a row."""
    code = re.match(r"HTTP Error (\d+)(?!.*infinite loop)", message, re.DOTALL)
    if code:
        number = int(code[1])
        return FetchError(f"http_{number}", f"the server answered {number}", transient=number in TRANSIENT_STATUSES)
    known = next((error for pattern, error in MESSAGES if re.search(pattern, message)), None)
    kind = FetchError if status == FAILED_TO_DOWNLOAD else ImageError
    if isinstance(known, kind):
        return known
    return kind("other", " ".join(message.split())[:200] or "img2dataset gives no reason")
