"""stdout and stderr, wherever they lead: to a reader who leaves, to a full disk, or nowhere."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import TextIO

from tarloom.errors import TarloomError

_STEERING = re.compile(r"[\x00-\x08\n-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
STDERR = 2
"""The last of the numbers that streams have."""


def prepare_streams() -> None:
    """Where a daemon has closed them, what is written goes nowhere; and any file name can be shown."""
    _keep_their_places()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _keep_their_places() -> None:
    """What is opened next would take the number of a stream that is closed, of stdin too: libraries would write their
    complaints into a file of ours, and uvloop ends the process."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(descriptor, True)  # processes that we start are no better off
    os.close(descriptor)


@contextlib.contextmanager
def reader_may_leave(*, exit_code: int) -> Iterator[None]:
    """Whoever closes our stdout (`| head`) has read enough: end without complaint."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _drop(sys.stdout)
        sys.exit(exit_code)
    except OSError as error:
        _drop(sys.stdout)
        raise TarloomError(f"stdout cannot be written: {error.strerror}") from error


def visible(line: str) -> str:
    """The line with what steers a terminal, or turns its text around, written as JSON writes it. Keys, URLs, captions
    and names of columns come from strangers."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def tell(line: str) -> None:
    """A line on stderr. The job and its exit code matter more than what is told of them: where stderr cannot be
    written, because whoever read it has left or a disk is full, this line and all that follow go nowhere."""
    try:
        sys.stderr.write(f"{visible(line)}\n")
        sys.stderr.flush()
    except OSError:
        _drop(sys.stderr)


def _drop(stream: TextIO) -> None:
    """Python flushes once more when it ends: let that go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
