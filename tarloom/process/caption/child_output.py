"""What a child process writes to its stderr goes to a file: it is quiet, and what it died of can be said.

A child inherits its stderr as it is started, deep inside a library: for that moment this process has the file there.
"""

import contextlib
import multiprocessing
import os
import re
import tempfile
import threading
from collections.abc import Iterator

_TAIL_BYTES = 1 << 16
_ERROR = re.compile(rb"^(?:\(.*?\)\s*)?(?:[\w.]+\s)*?((?:[\w.]+(?:Error|Exception|Interrupt)): .*)$", re.MULTILINE)


class ChildOutput:
    """kept: children write to this process's stderr as ever, and no reason is known."""

    def __init__(self, *, kept: bool = False) -> None:
        self._file = None if kept else tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the child lives

    @contextlib.contextmanager
    def of_children(self) -> Iterator[None]:
        """A child that is started in here has the file for its stderr. This process has it only until then."""
        if self._file is None:
            yield
            return
        ours, restored = os.dup(2), threading.Event()
        os.dup2(self._file.fileno(), 2)
        before = set(multiprocessing.active_children())

        def restore() -> None:
            while not restored.wait(0.005) and not set(multiprocessing.active_children()) - before:
                pass
            os.dup2(ours, 2)

        watcher = threading.Thread(target=restore, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            restored.set()
            watcher.join()
            os.close(ours)

    def reason(self) -> str | None:
        """The first error that the child names, as its own come before those that follow from it."""
        if self._file is None or self._file.closed:
            return None
        end = os.fstat(self._file.fileno()).st_size
        found = _ERROR.search(os.pread(self._file.fileno(), _TAIL_BYTES, max(0, end - _TAIL_BYTES)))
        return None if found is None else found[1].decode("utf-8", errors="replace")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
