"""Makes shards: their rows are fetched and resized side by side, and written in input order.

    rows of a shard -> fetch -> resize -> in input order -> tar ... commit, in a thread
    rows of the next shard, when all of these are begun -> fetch -> ...

A row that is slow holds up its own shard's end and nothing else.
"""

import asyncio
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from tarloom.create.rows import EncodedPicture, Fetcher, Row, rows_of
from tarloom.create.shards.earlier import EarlierShard, find_earlier, open_earlier
from tarloom.create.shards.own_loop import OwnLoop
from tarloom.create.shards.reorder import Window, in_order
from tarloom.create.shards.results import RowResult
from tarloom.create.shards.shard_files import ShardWriter, open_shard
from tarloom.create.sources.beside import FolderFetcher
from tarloom.create.sources.keys import ContentKeys, hashed_key, shard_keys
from tarloom.create.sources.stored import StoredFetcher
from tarloom.create.tasks import PackerDescription, PackTask, codec_threads
from tarloom.create.web.fetch import WebFetcher
from tarloom.engines.base import Report
from tarloom.errors import FetchError, RowError
from tarloom.format.storage import open_storage

Given = TypeVar("Given")
Done = TypeVar("Done")

UNFINISHED_PER_DOWNLOAD = 16
"""Rows of a shard that are begun and have no result yet, for each download in flight: most wait for their host."""
WAITING_ROWS = 16 << 10
"""Rows of a shard that may be done while a slow one in front of them is not."""
WAITING_BYTES = 128 << 20
"""Of their pictures."""
BODIES_PER_THREAD = 8
"""Fetched pictures that may wait for each codec thread."""
LITTLE_WORK = 1 << 20
"""Bytes that are hashed in half a millisecond."""


class ShardPacker:
    """Makes shards over one event loop and one fetcher: connections and what was learnt of hosts last from shard to
    shard. A shard that is known to come next begins as soon as all rows of the one before it have begun."""

    def __init__(self, description: PackerDescription) -> None:
        from tarloom.create.pictures.images import process_picture  # Loads OpenCV: only where pictures are worked on.

        self._process_picture = process_picture
        self._description = description
        self._config = description.config
        self._storage = open_storage(self._config.output)
        threads = codec_threads()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="codec")
        self._commits = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._bodies_at_most = BODIES_PER_THREAD * threads
        self._known: dict[str, PackTask] = {}
        """Shards to begin."""
        self._making: dict[str, asyncio.Task[Report]] = {}
        """Shards that are begun."""
        self._loop = OwnLoop()
        self._fetcher = self._loop.run(self._open_fetcher())

    def begin(self, task: PackTask) -> None:
        """Begin with a shard that will be asked for soon, behind those that were begun before."""
        if task.shard not in self._making:
            self._known[task.shard] = task

    def __call__(self, task: PackTask) -> Report:
        """Make one shard and commit its files. Raises StorageError."""
        self.begin(task)
        return self._loop.run(self._made(task.shard))

    def close(self) -> None:
        """Let go of connections and threads, and of shards that were begun and not asked for."""
        self._loop.run(self._leave())
        self._loop.close()
        self._commits.shutdown()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _open_fetcher(self) -> Fetcher:
        self._last_is_begun = asyncio.Event()
        """All rows of the last shard are."""
        self._last_is_begun.set()
        self._room = asyncio.Event()
        self._bodies = 0
        self._count_bodies(0)
        if self._description.folder is not None:
            fetcher: Fetcher = FolderFetcher(self._description.folder, self._config.web.max_bytes, self._room.wait)
        else:
            fetcher = self._web_fetcher()
        return await fetcher.__aenter__()

    def _web_fetcher(self) -> Fetcher:
        options = self._config.web
        fetcher: Fetcher = WebFetcher(options, self._config.consent, room=self._room.wait)
        if options.allow_storage:
            places, absent, room = options.allow_storage, self._description.absent, self._room.wait
            fetcher = StoredFetcher(fetcher, places, max_bytes=options.max_bytes, room=room, absent=absent)
        return fetcher

    async def _made(self, shard: str) -> Report:
        for name, task in self._known.items():
            before, self._last_is_begun = self._last_is_begun, asyncio.Event()
            self._making[name] = asyncio.create_task(self._make(task, before, self._last_is_begun))
        self._known.clear()
        return await self._making.pop(shard)

    async def _leave(self) -> None:
        for making in self._making.values():
            making.cancel()
        await asyncio.gather(*self._making.values(), return_exceptions=True)
        await self._fetcher.__aexit__(None, None, None)

    async def _make(self, task: PackTask, before: asyncio.Event, is_begun: asyncio.Event) -> Report:
        """before: set when all rows of the shard before this one are begun; is_begun: to be set when all of these
        are."""
        schema = self._description.schema
        try:
            await before.wait()
            with open_shard(self._storage, self._config, shard=task.shard, rows=task.rows, schema=schema) as files:
                await self._fill(files, task, is_begun)
                return await self._in_thread(files.commit)
        finally:
            is_begun.set()

    async def _fill(self, files: ShardWriter, task: PackTask, is_begun: asyncio.Event) -> None:
        at_once = self._config.web.thread_count
        unfinished = UNFINISHED_PER_DOWNLOAD * at_once
        window = Window(items=WAITING_ROWS, unfinished=unfinished, bytes=WAITING_BYTES, items_at_least=at_once)
        keys = shard_keys(self._config, task.shard, task.first_row)
        rows, settled = rows_of(keys.given(task.rows)), ContentKeys().settled
        found = await asyncio.to_thread(find_earlier, self._storage, self._config, task)
        with open_earlier(self._storage, self._config, found) as earlier:
            numbered = _and_then(is_begun.set, enumerate(rows))
            made = in_order(numbered, functools.partial(self._result, earlier), _size, window)
            async for result in made:
                files.add(settled(result))

    async def _in_thread(self, work: Callable[[], Done]) -> Done:
        """What takes long and waits for storage, which other shards need not. Who cancels it waits for its end: it is
        at files that are then closed."""
        done = asyncio.get_running_loop().run_in_executor(self._commits, work)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait([done])
            raise

    async def _result(self, earlier: EarlierShard | None, numbered: tuple[int, Row]) -> RowResult:
        """What has become of a row: in an earlier run, or now."""
        known = await earlier.result(*numbered) if earlier else None
        return known or await self._row(numbered[1])

    async def _row(self, row: Row) -> RowResult:
        """Fetch and resize one row. What goes wrong with the row is its result, not an exception."""
        if row.error is not None:
            return RowResult(row=row, error=row.error)
        try:
            fetched = await self._fetcher.fetch(row)
        except RowError as error:
            return RowResult(row=row, error=error.alone())
        by_content = self._config.lists.key_from == "content"
        kept = replace(fetched, data=b"", key=hashed_key(fetched.data) if by_content else None)
        self._count_bodies(+1)
        try:
            picture, digest = await self._worked_on(row, fetched.data)
        except RowError as error:
            return RowResult(row=row, fetched=kept, error=error.alone())
        finally:
            self._count_bodies(-1)
        return RowResult(row=row, fetched=kept, picture=picture, digest=digest)

    async def _worked_on(self, row: Row, data: bytes) -> tuple[EncodedPicture, str | None]:
        if self._config.images.disable_all_reencoding and len(data) <= LITTLE_WORK:
            return self._picture(row, data)  # done sooner than handed to a thread
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._picture, row, data)

    def _count_bodies(self, more: int) -> None:
        """While many wait for the codec, none are fetched: what is fetched is held in memory."""
        self._bodies += more
        if self._bodies < self._bodies_at_most:
            self._room.set()
        else:
            self._room.clear()

    def _picture(self, row: Row, data: bytes) -> tuple[EncodedPicture, str | None]:
        kind = self._config.sharding.compute_hash
        digest = None if kind == "none" else hashlib.new(kind, data, usedforsecurity=False).hexdigest()
        if self._config.lists.verify_hash is not None and digest != row.expected_hash:
            raise FetchError("hash_mismatch", f"the bytes do not have the {kind} that the list gives")
        boxes = row.columns.get(self._config.lists.bbox_col) if self._config.lists.bbox_col else None
        return self._process_picture(data, self._config.images, boxes), digest


def _and_then(told: Callable[[], None], items: Iterable[Given]) -> Iterator[Given]:
    """The items; then, when all have been taken, somebody is told."""
    yield from items
    told()


def _size(result: RowResult) -> int:
    return len(result.picture.data) if result.picture else 0
