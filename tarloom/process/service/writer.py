"""Where a batch job's results go: one folder, local or in an object store; every file appears whole or not at all."""

import json
import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from tarloom.format.parquet import row_group_writer
from tarloom.format.regroup import regrouped
from tarloom.format.storage import open_storage
from tarloom.format.storage.writable import check_writable
from tarloom.process.search.vectors import EMBEDDING

ROW_GROUP_ROWS = 16_384
"""Of one group, some 25 MB of vectors of 768 numbers: what is in memory at a time."""
Env = Literal["dev", "prod"]


class UnifiedOutputWriter:
    """Writes tables, JSON and logs into a folder. Raises UsageError where it cannot be written to."""

    def __init__(self, output_dir: str) -> None:
        self.storage = open_storage(output_dir)
        check_writable(self.storage)

    @property
    def output_dir(self) -> str:
        """The folder's full address."""
        return self.storage.url

    def write_parquet(
        self, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], footer: Mapping[str, str]
    ) -> Iterator[int]:
        """Commit a table of these batches, as much of it in memory as a row group; tells rows as they are written."""
        unlike = [field for field in schema.names if field in ("key", "url", EMBEDDING)]
        whole = schema.with_metadata(dict(sorted(footer.items())))
        with row_group_writer(self.storage, name, whole, unlike=unlike) as write:
            tables = (pa.Table.from_batches([batch], schema) for batch in batches)
            for group in regrouped(tables, ROW_GROUP_ROWS):
                write(group)
                yield group.num_rows

    def write_json(self, name: str, facts: Mapping[str, Any]) -> None:
        """Commit a JSON file for people."""
        self.storage.write(name, json.dumps(facts, indent=2, ensure_ascii=False).encode() + b"\n")

    @contextmanager
    def log_file(self, env: Env = "prod") -> Iterator[str]:
        """What tarloom logs while the block lasts, as a file `logs/TIME.log`, whose address this gives.

        prod: lines of JSON from INFO on. dev: text from DEBUG on, with tracebacks. It says too what ended the block, if
        that was an error. In an object store the file is empty until the end. Raises StorageError where it
        cannot be written.
        """
        name = f"logs/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.log"
        self.storage.write(name, b"")  # credentials that do not let us write are found now, not after hours
        here = self.storage.local_path(name)
        with tempfile.TemporaryDirectory(prefix="tarloom-log-") as folder:
            path = here or Path(folder, "log")
            try:
                with _logging_to(path, env):
                    yield self.storage.describe(name)
            finally:
                if here is None:
                    self.storage.write(name, path.read_bytes())


@contextmanager
def _logging_to(path: Path, env: Env) -> Iterator[None]:
    logger, handler = logging.getLogger("tarloom"), logging.FileHandler(path, encoding="utf-8")
    level = logging.DEBUG if env == "dev" else logging.INFO
    handler.setFormatter(_Lines() if env == "dev" else _JsonLines())
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    except BaseException as error:
        logger.error("ended by %s: %s", type(error).__name__, error, exc_info=env == "dev")
        raise
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        handler.close()


class _Lines(logging.Formatter):
    """Text, with the time in UTC."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))


class _JsonLines(_Lines):
    """A JSON object a line, as collectors of logs want it."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
