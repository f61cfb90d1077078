"""Finding the processes that a test has started, by what they run."""

import os
import time
from collections.abc import Iterator
from pathlib import Path


def descendants(named: str, ancestor: int | None = None) -> list[int]:
    """Processes below `ancestor`, by default this one, whose command line holds this text."""
    top = os.getpid() if ancestor is None else ancestor
    return [pid for pid in _pids() if named in _command(pid) and top in _ancestors(pid)]


def are_gone(pids: list[int]) -> bool:
    """Whether these have ended, whether or not anybody has asked how."""
    return all(_stat(pid)[:1] in ([], ["Z"]) for pid in pids)


def wait_for(condition, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _ancestors(pid: int) -> Iterator[int]:
    while pid := _parent(pid):
        yield pid


def _parent(pid: int) -> int:
    """0 for the first process, and for one that is gone."""
    return int((_stat(pid) or ["", "0"])[1])


def _stat(pid: int) -> list[str]:
    """State, parent and so on; nothing of a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
