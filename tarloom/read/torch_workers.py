"""Errors from the workers of a torch DataLoader, as they were raised there.

    Caught BadSample in DataLoader worker process 0.
    Original Traceback (most recent call last):
      ...
    tarloom.errors.BadSample: shards/00000.tar: ...

is what torch makes of one: an error of the same type, whose message holds all this.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from tarloom.errors import EngineError, TarloomError, first_line

Taken = TypeVar("Taken")

_DEAD = "DataLoader worker (pid"
"""How torch begins what it says of one that ended, or was ended, before its work was done."""
_ENDED_ITSELF = "with exit code"


@contextmanager
def stopped_after(batches: Iterator[Taken]) -> Iterator[Iterator[Taken]]:
    """The same inside of the block, with which a DataLoader's workers end.

    torch ends them when nobody refers to the iterator any more, as the traceback of an error does that somebody keeps.
    Where a thread's garbage collection comes upon both at last, semaphores go before workers that are yet to start have
    found them; these die, and the main thread, whatever it does by then, is told so by an exception.
    """
    try:
        yield batches
    finally:
        stop = getattr(batches, "_shutdown_workers", None)  # there is no other way; one without workers has none
        if stop is not None:
            stop()


def with_plain_errors(batches: Iterator[Taken]) -> Iterator[Taken]:
    """The same. Errors of ours have their own message alone, and a worker that died is an EngineError."""
    try:
        yield from batches
    except TarloomError as error:
        _, told, message = str(error).rpartition(f"\n{type(error).__module__}.{type(error).__qualname__}: ")
        if not told:  # by this process
            raise
        raise type(error)(message.strip()) from error
    except RuntimeError as error:
        if not str(error).startswith(_DEAD):
            raise
        reason = first_line(error).rstrip(" .")
        raise EngineError(f"{reason}; {_advice(error)}") from error


def _advice(error: RuntimeError) -> str:
    """What to do about a worker that ended itself, or was ended: torch says it in the error before its last one."""
    if _ENDED_ITSELF in f"{error} {error.__cause__}":
        return "its own error is printed above; a program's own lines belong below if __name__ == '__main__':"
    return "where memory ran out, give fewer workers or smaller batches"
