"""Files on their way to their place: written beside it, locked (flock) while their writer lives, then renamed."""

import contextlib
import fcntl
import os
import uuid
from pathlib import Path
from typing import IO, Literal

TEMPORARY = ".tmp-"


class Taken(Exception):
    """There is a file of that name already."""


def link_new(temporary: str, target: Path) -> None:
    """Give a file its name unless that is taken; raises Taken."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise Taken from None
    except OSError:  # A file system without hard links: then two writers of one moment are not told apart.
        if target.exists():
            raise Taken from None
        os.rename(temporary, target)


def locked_temporary(target: Path) -> IO[bytes]:
    """A new temporary beside its target, locked while it is open."""
    # A part of the target's name is enough for who looks; the whole one may be as long as a name can be.
    return locked_file(target.parent / f"{TEMPORARY}{target.name[:40]}-{uuid.uuid4().hex[:12]}", "xb")


def locked_file(path: Path, mode: Literal["xb", "ab"]) -> IO[bytes]:
    """A file that nobody else has locked. A sweeper, or who had it before, may have removed it meanwhile: try again."""
    while True:
        file = open(path, mode, opener=_itself)  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        file.close()


def remove_if_abandoned(path: Path) -> bool:
    try:
        with open(path, "rb", opener=_itself) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            return True
    except OSError:  # locked, gone, or not ours to remove
        return False


def _itself(path: str, flags: int) -> int:
    """Open no file that a link of this name leads to, which whoever made the folder chose; and wait for no pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
