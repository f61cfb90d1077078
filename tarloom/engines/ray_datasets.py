"""What all that runs on Ray Data shares: rows read by tasks, quiet, and errors that are ours."""

import contextlib
import logging
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, update_wrapper
from typing import Any

import pyarrow as pa

from tarloom.engines.ray_session import first_line
from tarloom.errors import EngineError, TarloomError, missing_extra

try:
    import ray.data
    from ray.data import Datasource
    from ray.data.block import BlockMetadata
    from ray.data.datasource import ReadTask
    from ray.exceptions import RayError
except ImportError as error:
    raise missing_extra("ray", error) from error

_EXECUTOR = "ray.data._internal.execution.streaming_executor_state"
"""Its logger says which errors ended an execution, and which were left out."""
_RAISED = "ray.data.exceptions"
"""Its logger says what is raised, too, with the whole trace."""
_ADVICE = "\nFailed to apply UDF transform after "
"""Where begins what Ray Data adds to the message of whatever a task raises, whether it tried again or not."""
ReadTables = Callable[[], Iterable[pa.Table]]


def read_by_tasks(tasks: Sequence[ReadTables], schema: pa.Schema, *, cpus: float = 1) -> ray.data.Dataset:
    """What the tasks read, each where there is room for it. Nothing is known of it before, but its schema."""
    rows = ray.data.read_datasource(_TaskSource(tasks, schema), override_num_blocks=len(tasks), num_cpus=cpus)
    rows.context.enable_progress_bars = False
    return rows


def named(read: ReadTables) -> ReadTables:
    """The same under its function's name, which Ray asks for where a task takes more than a MiB to send."""
    return update_wrapper(read, read.func) if isinstance(read, partial) else read


class _TaskSource(Datasource):  # type: ignore[misc]
    def __init__(self, tasks: Sequence[ReadTables], schema: pa.Schema) -> None:
        super().__init__()
        self._tasks, self._schema = tasks, schema

    def get_name(self) -> str:
        return "Tarloom"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        unknown = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        return [ReadTask(named(task), unknown, schema=self._schema) for task in self._tasks]


def tables_of(rows: ray.data.Dataset, *, doing: str) -> Iterator[pa.Table]:
    """The rows as they come. Raises what a task raised of ours, and EngineError where anything else fails.

    doing: what is said to have failed then.
    """
    try:
        yield from rows.iter_batches(batch_size=None, batch_format="pyarrow")
    except RayError as error:
        cause = root_cause(error)
        if isinstance(cause, TarloomError):
            cause.args = (str(cause).partition(_ADVICE)[0],)
            raise cause from error
        why = f"{type(cause).__name__}: {first_line(cause)}"
        raise EngineError(f"Ray Data failed while {doing}: {why}; see Ray's logs in /tmp/ray") from error


def root_cause(error: BaseException) -> BaseException:
    """What a task raised, under the layers of Ray's errors."""
    cause = getattr(error, "cause", None) or error.__cause__
    return root_cause(cause) if isinstance(cause, BaseException) else error


@contextlib.contextmanager
def quiet_data(level: int = logging.ERROR, known: tuple[type[BaseException], ...] = (TarloomError,)) -> Iterator[None]:
    """Without what Ray Data tells, below this level, about plans and progress, and about settings of its own; and
    without its traces of errors of known kinds: they are raised, and one line says them."""

    def is_news(record: logging.LogRecord) -> bool:
        error = (record.exc_info or sys.exc_info())[1]
        return error is None or not isinstance(root_cause(error), known)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        ray.data.DataContext.get_current()
    with contextlib.ExitStack() as before:
        before.enter_context(_level("ray.data", level))
        for name in (_EXECUTOR, _RAISED):
            before.enter_context(_filtered(name, is_news))
        yield


@contextlib.contextmanager
def left_out() -> Iterator[Sequence[BaseException]]:
    """The last error, once there is one, of parts that Ray Data left out as it was told to. It says so in its log
    alone, which then has nothing of it."""
    last = deque[BaseException](maxlen=1)

    def keep(record: logging.LogRecord) -> bool:
        last.extend(error for error in (record.exc_info or ())[1:2] if isinstance(error, BaseException))
        return False

    with _level(_EXECUTOR, logging.ERROR), _filtered(_EXECUTOR, keep):
        yield last


@contextlib.contextmanager
def _level(name: str, level: int) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _filtered(name: str, kept: Callable[[logging.LogRecord], bool]) -> Iterator[None]:
    logger = logging.getLogger(name)
    logger.addFilter(kept)
    try:
        yield
    finally:
        logger.removeFilter(kept)
