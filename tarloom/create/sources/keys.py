"""The keys of samples: what `key_from` says, made so that every reader of tars splits them from the extensions alike.

    row       the row's number in the source, 9 digits; in a folder of pictures, the picture's path without extension
    shard     the shard's number followed by the row's number in it, as img2dataset counts
    url       the first 32 hexadecimal digits of the SHA-256 of the URL, blanks around it left out
    content   the first 32 hexadecimal digits of the SHA-256 of the bytes as they were fetched
    COLUMN    the text of that column, every character but letters, digits, "-" and "_" replaced by "_"

Within a shard the first row in input order has the key; later ones of the same key fail as duplicate_key. Rows that
cannot have a key of their own are known by their number.
"""

import hashlib
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

import pyarrow as pa

from tarloom.create.config import CreateConfig
from tarloom.create.rows import row_key
from tarloom.create.shards.results import RowResult
from tarloom.create.sources.columns import ERROR, KEY, failed, with_column
from tarloom.errors import FetchError

BUILT_IN = ("row", "shard", "url", "content")
"""What `key_from` may say that is no column."""
HASH_DIGITS = 32
LONGEST_KEY = 200
"""UTF-8 bytes. A file's name has 255, and an extension is to follow."""


def hashed_key(data: bytes) -> str:
    """The key of these bytes: of a URL, or of what lies behind it."""
    return hashlib.sha256(data).hexdigest()[:HASH_DIGITS]


def cleaned_key(text: str | None) -> str | None:
    """The key that a column's text gives, None where it gives none: it is empty, or too long."""
    key = re.sub(r"[^\w-]", "_", (text or "").strip())
    return key if 0 < len(key.encode()) <= LONGEST_KEY else None


@dataclass(frozen=True, kw_only=True)
class ShardKeys:
    """How the rows of one shard get their keys."""

    key_from: str
    first_row: int
    """The number of the shard's first row in the source."""
    shard: int
    """The shard's number."""
    shard_digits: int
    row_digits: int
    """Digits that the last row of a full shard takes."""

    def given(self, rows: pa.Table) -> pa.Table:
        """The shard's rows with their keys in `row:key`; those that have none, or another's, marked as failed."""
        if self.key_from == "content" or (self.key_from == "row" and KEY not in rows.column_names):
            return self._numbered(rows)
        if self.key_from == "row":
            return rows
        if self.key_from == "shard":
            return _with_keys(rows, [self._in_shard(place) for place in range(rows.num_rows)])
        return self._checked(rows, self._by_url(rows) if self.key_from == "url" else self._by_column(rows))

    def _numbered(self, rows: pa.Table) -> pa.Table:
        return _with_keys(rows, [row_key(self.first_row + place) for place in range(rows.num_rows)])

    def _in_shard(self, place: int) -> str:
        return f"{self.shard * 10**self.row_digits + place:0{self.shard_digits + self.row_digits}d}"

    def _by_url(self, rows: pa.Table) -> list[str | None]:
        """A row without a URL fails for that."""
        urls = enumerate(rows.column("url").to_pylist(), self.first_row)
        return [hashed_key(url.strip().encode()) if url else row_key(number) for number, url in urls]

    def _by_column(self, rows: pa.Table) -> list[str | None]:
        return [cleaned_key(text) for text in rows.column(KEY).to_pylist()]

    def _checked(self, rows: pa.Table, keys: Sequence[str | None]) -> pa.Table:
        """The rows with these keys; a row without a key, or with one that a row before it has, fails.

        Rows that have failed already take no key.
        """
        lost = rows.column(ERROR).is_valid().to_pylist() if ERROR in rows.column_names else [False] * rows.num_rows
        wanted, seen = set(keys), set[str]()
        errors: dict[int, FetchError] = {}
        settled: list[str] = []
        for place, key in enumerate(keys):
            if lost[place]:
                key = self._number_beside(wanted, place)
            elif key is None or key in seen:
                errors[place] = _no_key(self.key_from) if key is None else _duplicate()
                key = self._number_beside(wanted, place)
            else:
                seen.add(key)
            settled.append(key)
        return failed(_with_keys(rows, settled), errors)

    def _number_beside(self, wanted: Set[str | None], place: int) -> str:
        """The row's number, with "_" behind it where a column holds that number too."""
        key = row_key(self.first_row + place)
        while key in wanted:
            key += "_"
        return key


class ContentKeys:
    """Gives results, in input order, the keys that their bytes gave."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def settled(self, result: RowResult) -> RowResult:
        """The result under its key; as a failure, where a row before it has that key."""
        key = result.fetched.key if result.fetched else None
        if key is None or result.error is not None:
            return result
        if key in self._seen:
            return RowResult(row=result.row, error=_duplicate())
        self._seen.add(key)
        return replace(result, row=replace(result.row, key=key))


def shard_keys(config: CreateConfig, shard: str, first_row: int) -> ShardKeys:
    """How the rows of a shard get their keys, by its name and the number of its first row."""
    return ShardKeys(
        key_from=config.lists.key_from,
        first_row=first_row,
        shard=int(shard),
        shard_digits=config.sharding.oom_shard_count,
        row_digits=_digits_below(config.sharding.number_sample_per_shard),
    )


def _with_keys(rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    return with_column(rows, KEY, pa.array(keys, pa.string()))


def _no_key(key_from: str) -> FetchError:
    return FetchError("bad_key", f"{key_from} gives the row no key: it is empty, or longer than {LONGEST_KEY} bytes")


def _duplicate() -> FetchError:
    return FetchError("duplicate_key", "a row before it in the shard has its key")


def _digits_below(count: int) -> int:
    """Digits of the largest number below `count`, none where that is 0: the logarithm of `count`, rounded up."""
    return len(str(count - 1)) if count > 1 else 0
