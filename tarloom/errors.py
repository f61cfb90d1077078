"""All errors that tarloom raises on purpose.

TarloomError
├── UsageError              wrong options or input; nothing was started (exit code 2)
│   ├── PlanMismatch        the output was planned from another input or with other options
│   ├── StageMismatch       a sidecar of this name was made by another model, prompt or preprocessing
│   └── MissingExtra        an optional dependency is not installed
├── StorageError            a file cannot be listed, read or written where it lies (exit code 1)
│   └── UnreadableFile      it is this file alone, whose place can be read
├── ShardError              a shard, or what belongs to it, is not as it should be (exit code 1)
│   ├── CorruptShard        its bytes are not a sound tar, parquet or JSON
│   │   └── TruncatedShard  it ends before its contents do
│   ├── StaleIndex          an index made for another version of its shard
│   ├── StaleSidecar        a sidecar made for another version of its shard
│   ├── JoinError           a joined table is not there, or has no row or two for a sample
│   ├── BadSample           a sample's member is not what it was to be decoded as
│   └── TooManyErrors       more samples could not be read than the limits allow
├── EngineError             workers died or the environment is broken: the whole run stops (exit code 1)
└── RowError                one row failed: counted and named in its row, never the end of a run
    ├── FetchError          it could not be downloaded
    ├── ImageError          its bytes could not be decoded, resized or encoded
    ├── TextError           its bytes are not the text or JSON they should be
    └── GenerateError       no picture could be made of it

Every message says what happened, where (shard, key, row or URL) and what to do.
"""

from copy import copy
from functools import partial
from typing import Final, Self


class TarloomError(Exception):
    """Base of all errors that tarloom raises on purpose."""


class UsageError(TarloomError):
    """Options or input are wrong; nothing was started."""


class PlanMismatch(UsageError):
    """The output folder was planned from another input or with other options."""


class StageMismatch(UsageError):
    """A sidecar of this name exists and was made with another fingerprint."""


class MissingExtra(UsageError):
    """An optional dependency is not installed."""


class StorageError(TarloomError):
    """A file cannot be listed, read or written where it lies."""


class UnreadableFile(StorageError):
    """One file cannot be read, whatever becomes of others in its place: it is absent, no file, or not for us."""


class ShardError(TarloomError):
    """A shard, or a file that belongs to it, is not as it should be."""


class CorruptShard(ShardError):
    """The bytes of a shard or of one of its files are not sound."""


class TruncatedShard(CorruptShard):
    """A shard ends before its contents do."""


class StaleIndex(ShardError):
    """An index was made for another version of its shard."""


class StaleSidecar(ShardError):
    """A sidecar was made for another version of its shard."""


class JoinError(ShardError):
    """A table that is joined is not there, or has no row for a sample, or several."""


class BadSample(ShardError):
    """A sample's member is not what it was to be decoded as."""


class TooManyErrors(ShardError):
    """More samples could not be read than the limits allow."""


class EngineError(TarloomError):
    """Workers died or their environment is broken; the run cannot go on."""


class RowError(TarloomError):
    """One row failed: "NAME: REASON".

    `name` is one of a few stable words (docs/errors.md), `transient` says if a retry may help. The text is written into
    the metadata: it holds no address, port, time or anything else that differs from run to run.
    """

    def __init__(self, name: str, reason: str, *, transient: bool = False) -> None:
        super().__init__(f"{name}: {reason}")
        self.name: Final = name
        self.reason: Final = reason
        self.transient: Final = transient

    def __reduce__(self) -> tuple[object, ...]:
        return partial(type(self), self.name, self.reason, transient=self.transient), ()

    def alone(self) -> Self:
        """The same without its traceback, to be kept: tracebacks keep what their frames held, such as whole bodies."""
        return copy(self)


class FetchError(RowError):
    """A row's bytes could not be fetched."""


class ImageError(RowError):
    """A row's bytes could not be decoded, resized or encoded as a picture."""


class TextError(RowError):
    """A row's bytes are not the text or JSON they should be."""


class GenerateError(RowError):
    """No picture could be made of a row: of its columns, or by a model."""


def first_line(error: BaseException) -> str:
    """Of what an error of others says, which may go on with a document or a trace; its kind where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def missing_extra(extra: str, error: ImportError) -> MissingExtra:
    """The error to raise where an adapter's framework cannot be imported. It names the line that installs it."""
    return MissingExtra(f"{error.name or extra} is not installed; run: pip install 'tarloom[{extra}]'")
