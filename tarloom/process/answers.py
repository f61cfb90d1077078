"""A stage's answers for one shard: those of earlier runs, then what comes, and in the end the sidecar."""

import errno
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.errors import EngineError, ShardError, StorageError
from tarloom.format.sidecar import ERROR, FAILED, STATUS, SUCCESS, read_sidecar, write_sidecar
from tarloom.process.parts import ROW, Parts
from tarloom.process.stage import Stage, result_schema
from tarloom.process.task import Again, ShardTask, StageReport, StageTask

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""Reasons for which no other shard could be written either."""
UNANSWERED = -1


class Answers:
    """Of one stage to one shard. Safe to use from several threads.

    task: the shard's; wanted: of this stage; columns: of its worker.
    """

    def __init__(self, task: ShardTask, wanted: StageTask, stage: Stage, columns: pa.Schema) -> None:
        self._task, self._wanted, self._stage = task, wanted, stage
        self._schema = result_schema(columns)
        self._parts = Parts(storage=task.piece.storage, shard=task.piece.shard, info=wanted.info)
        self._keeps_parts = task.keep and task.piece.rows > stage.batch_size
        """Not of a shard that a killed run may have to repeat whole anyway."""
