"""What the system says of a file on this machine, as errors of ours."""

import contextlib
import errno
from collections.abc import Collection, Iterator

from tarloom.errors import StorageError

OF_ONE_FILE = (
    *(errno.EACCES, errno.EINVAL, errno.EISDIR, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM),
    *(errno.EBADMSG, errno.EIO, errno.EUCLEAN),
)
"""Errors that say nothing of other files, if their folder is there: bad sectors, too. Those of a network or of this
process (ESTALE, EMFILE) do."""
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""Errors that whatever is written next would meet, too."""


@contextlib.contextmanager
def translated(where: str) -> Iterator[None]:
    """The system's errors as StorageError."""
    try:
        yield
    except OSError as error:
        is_file = isinstance(error, FileExistsError)  # of `mkdir`, for a folder that may be there
        reason = "a file lies where a folder should be" if is_file else error.strerror or error
        raise StorageError(f"{where}: {reason}; check the path, its permissions and the free space") from error


def is_caused_by(error: StorageError, numbers: Collection[int]) -> bool:
    """Whether the system gave one of these error numbers. An object store gives none."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in numbers
