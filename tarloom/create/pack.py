"""Makes one shard: its rows are fetched and resized side by side, and written in input order."""

import asyncio
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pyarrow as pa

from tarloom.create.beside import FolderFetcher
from tarloom.create.config import CreateConfig
from tarloom.create.fetch import WebFetcher
from tarloom.create.keys import ContentKeys, hashed_key, shard_keys
from tarloom.create.reorder import Window, in_order
from tarloom.create.results import RowResult
from tarloom.create.rows import Fetcher, Picture, Row, rows_of
from tarloom.create.shard_files import NewShard, open_shard
from tarloom.engines.base import Report
from tarloom.errors import FetchError, RowError
from tarloom.format.storage import Storage, open_storage

CODEC_THREADS = min(4, os.cpu_count() or 1)
"""Threads that decode, resize and encode; the libraries that do it let other threads run meanwhile."""
WAITING_PER_DOWNLOAD = 16
"""Rows that may wait for a slow one in front of them, for each download in flight."""
WAITING_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """A shard to make: its rows travel with it."""

    shard: str
    first_row: int
    """The number of its first row in the source."""
    rows: pa.Table


@dataclass(frozen=True, kw_only=True)
class PackerDescription:
    """What a worker needs to make shards. Travels to where the work runs; calling it opens the worker there."""

    config: CreateConfig
    schema: pa.Schema
    """Of the metadata."""
    folder: Storage | None
    """Where the pictures lie; None for URLs."""

    def __call__(self) -> Callable[[ShardTask], Report]:
        if self.config.downloader == "img2dataset":
            from tarloom.create.with_img2dataset import Img2datasetPacker

            return Img2datasetPacker(self)
        return ShardPacker(self)


class ShardPacker:
    """Makes shards, one at a time."""

    def __init__(self, description: PackerDescription) -> None:
        from tarloom.create.images import process_picture  # Loads OpenCV: only where pictures are worked on.

        self._process_picture = process_picture
        self._description = description
        self._config = description.config
        self._storage = open_storage(self._config.output)

    def __call__(self, task: ShardTask) -> Report:
        """Make one shard and commit its files. Raises StorageError."""
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(self._make(task))

    async def _make(self, task: ShardTask) -> Report:
        schema = self._description.schema
        with open_shard(self._storage, self._config, shard=task.shard, rows=task.rows, schema=schema) as files:
            await self._fill(files, task)
            return files.commit()

    async def _fill(self, files: NewShard, task: ShardTask) -> None:
        in_flight = self._config.web.thread_count
        window = Window(in_flight=in_flight, waiting=WAITING_PER_DOWNLOAD * in_flight, waiting_bytes=WAITING_BYTES)
        pool = ThreadPoolExecutor(CODEC_THREADS, thread_name_prefix="codec")
        try:
            async with self._fetcher() as fetcher:
                keys = shard_keys(self._config, task.shard, task.first_row)
                rows, settled = rows_of(keys.given(task.rows)), ContentKeys().settled
                async for result in in_order(rows, lambda row: self._row(row, fetcher, pool), _size, window):
                    files.add(settled(result))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    async def _row(self, row: Row, fetcher: Fetcher, pool: ThreadPoolExecutor) -> RowResult:
        """Fetch and resize one row. What goes wrong with the row is its result, not an exception."""
        if row.error is not None:
            return RowResult(row=row, error=row.error)
        try:
            fetched = await fetcher.fetch(row)
        except RowError as error:
            return RowResult(row=row, error=error)
        loop = asyncio.get_running_loop()
        by_content = self._config.lists.key_from == "content"
        kept = replace(fetched, data=b"", key=hashed_key(fetched.data) if by_content else None)
        try:
            picture, digest = await loop.run_in_executor(pool, self._picture, row, fetched.data)
        except RowError as error:
            return RowResult(row=row, fetched=kept, error=error)
        return RowResult(row=row, fetched=kept, picture=picture, digest=digest)

    def _picture(self, row: Row, data: bytes) -> tuple[Picture, str | None]:
        kind = self._config.sharding.compute_hash
        digest = None if kind == "none" else hashlib.new(kind, data, usedforsecurity=False).hexdigest()
        if self._config.lists.verify_hash is not None and digest != row.expected_hash:
            raise FetchError("hash_mismatch", f"the bytes do not have the {kind} that the list gives")
        return self._process_picture(data, self._config.images), digest

    def _fetcher(self) -> Fetcher:
        if self._description.folder is not None:
            return FolderFetcher(self._description.folder, self._config.web.max_bytes)
        return WebFetcher(self._config.web, self._config.consent)


def _size(result: RowResult) -> int:
    return len(result.picture.data) if result.picture else 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop, about twice as fast; Python's own where it is not to be had."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
