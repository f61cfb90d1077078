"""What could not be read and why: exact counts, the entries up to a bound, and the limits that end a run.

Ledgers add up like tallies. Workers keep one of what they read, without limits; the one that all are merged into, in
the order in which they come, has the limits.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from tarloom.errors import (
    CorruptShard,
    JoinError,
    ShardError,
    StaleIndex,
    StaleSidecar,
    StorageError,
    TooManyErrors,
    TruncatedShard,
    UsageError,
)

KEPT = 1000
"""Entries of a ledger. What comes later is summed up by file and name."""
SHOWN = 3
"""Entries in the message of TooManyErrors."""


def _word(kind: type) -> str:
    """CorruptShard: corrupt_shard."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


OF_FILES: Final = frozenset(
    map(_word, (StorageError, ShardError, CorruptShard, TruncatedShard, StaleIndex, StaleSidecar, JoinError))
)
"""Names of errors of a whole file, or of all samples of a part of it. All others are of one sample."""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A sample, or several of one file at once, that could not be read."""

    where: str
    """The address of the tar, or of the file that belongs to it."""
    key: str | None
    """None where it is a file, or a part of it."""
    name: str
    """One of a few stable words: docs/errors.md."""
    reason: str
    rows: int = 1
    """How many samples; 0 where nobody knows, because the shard could not be opened."""

    @classmethod
    def of_file(cls, error: ShardError | StorageError, *, rows: int = 1) -> "Skipped":
        where, _, reason = " ".join(str(error).split()).partition(": ")
        return cls(where=where, key=None, name=_word(type(error)), reason=reason, rows=rows)

    @property
    def text(self) -> str:
        """As it stands in `__error__` beside the key: "NAME: WHERE: REASON"."""
        return f"{self.name}: {self.where}: {self.reason}"

    @classmethod
    def from_text(cls, text: str, key: str | None) -> "Skipped":
        name, where, reason = (*text.split(": ", 2), "", "")[:3]
        return cls(where=where, key=None if name in OF_FILES else key, name=name, reason=reason)

    def __str__(self) -> str:
        return f"{self.where}{'' if self.key is None else f': {self.key}'}: {self.name}: {self.reason}"


class Ledger:
    """Counts what is read and what is not. One ledger may serve several passes and datasets.

    max_skipped: samples in all; a shard that could not be opened counts as one. max_in_a_row: failures one after the
    other, in the order of reading, a lost part of a shard being one. None for no limit.
    """

    def __init__(self, *, max_skipped: int | None = None, max_in_a_row: int | None = None) -> None:
        for name, limit in (("max_skipped", max_skipped), ("max_in_a_row", max_in_a_row)):
            if limit is not None and limit < 0:
                raise UsageError(f"{name} must be at least 0, not {limit}")
        self.max_skipped = max_skipped
        self.max_in_a_row = max_in_a_row
        self.counts: Counter[str] = Counter()
        """Samples by the name of what happened to them."""
        self.rows = 0
        """Samples that are missing from shards that could be opened."""
        self._entries: list[Skipped] = []
        self._sums: dict[tuple[str, str], Skipped] = {}
        self._run = _Run()

    @property
    def entries(self) -> list[Skipped]:
        """What was skipped, in order; together they are all of it, sums behind the others."""
        return [*self._entries, *self._sums.values()]

    def count(self, rows: int, errors: Mapping[int, Skipped]) -> None:
        """Count so many rows, of which these could not be read, by their numbers. Raises TooManyErrors."""
        done = 0
        for first, entry in _joined(errors):
            self._run = self._run.then(_Run(length=first - done))
            self.skip(entry)
            done = first + entry.rows
        self._run = self._run.then(_Run(length=rows - done))

    def skip(self, entry: Skipped) -> None:
        """Count what could not be read. Raises TooManyErrors beyond a limit."""
        self._take(entry)
        self._run = self._run.then(_Run(length=1, head=1, tail=1, longest=1))
        self._check()

    def merge(self, other: "Ledger") -> None:
        """Count all that the other has counted, as what came next. Raises TooManyErrors beyond a limit."""
        for entry in other.entries:
            self._take(entry)
        self._run = self._run.then(other._run)
        self._check()

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes an equal ledger of, without limits."""
        return {"entries": [asdict(entry) for entry in self.entries], "run": asdict(self._run)}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "Ledger":
        ledger = cls()
        for entry in facts["entries"]:
            ledger._take(Skipped(**entry))
        ledger._run = _Run(**facts["run"])
        return ledger

    def _take(self, entry: Skipped) -> None:
        self.counts[entry.name] += max(entry.rows, 1)
        self.rows += entry.rows
        if len(self._entries) < KEPT:
            self._entries.append(entry)
        else:
            summed = self._sums.get((entry.where, entry.name), replace(entry, key=None, rows=0))
            self._sums[entry.where, entry.name] = replace(summed, rows=summed.rows + entry.rows)

    def _check(self) -> None:
        skipped, longest = self.counts.total(), self._run.longest
        if self.max_skipped is not None and skipped > self.max_skipped:
            raise self._too_many(f"samples that could not be read: {skipped}, max_skipped is {self.max_skipped}")
        if self.max_in_a_row is not None and longest > self.max_in_a_row:
            raise self._too_many(f"failures in a row: {longest}, max_in_a_row is {self.max_in_a_row}")

    def _too_many(self, what: str) -> TooManyErrors:
        last = " | ".join(map(str, self.entries[-SHOWN:]))
        return TooManyErrors(f"{what}; the last: {last}; mend what they name, or raise the limit")


@dataclass(frozen=True, kw_only=True)
class _Run:
    """How failures follow each other in a stretch of reading; stretches add up."""

    length: int = 0
    head: int = 0
    """Failures before the first success."""
    tail: int = 0
    """Failures after the last success."""
    longest: int = 0

    def then(self, other: "_Run") -> "_Run":
        """The stretch that is this one and then the other."""
        return _Run(
            length=self.length + other.length,
            head=self.head + (other.head if self.head == self.length else 0),
            tail=other.tail + (self.tail if other.tail == other.length else 0),
            longest=max(self.longest, other.longest, self.tail + other.head),
        )


def _joined(errors: Mapping[int, Skipped]) -> Iterator[tuple[int, Skipped]]:
    """Rows and what happened to them, ascending; neighbours that one file took with it are one entry."""
    rows = sorted(errors)

    def together(number: int) -> object:
        error = errors[rows[number]]
        return (error, rows[number] - number) if error.key is None else rows[number]

    for _, group in itertools.groupby(range(len(rows)), key=together):
        numbers = list(group)
        first = rows[numbers[0]]
        yield first, replace(errors[first], rows=len(numbers))
