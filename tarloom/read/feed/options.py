"""What users say of a feed, and the feed that is made of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tarloom.errors import UsageError
from tarloom.format.layout import IMAGE_MEMBERS
from tarloom.read.dataset import Dataset
from tarloom.read.feed.assemble import Assembly, Decode
from tarloom.read.feed.feed import GIB, Feed
from tarloom.read.feed.mixing import One, Sequence
from tarloom.read.feed.order import Order, Shuffle
from tarloom.read.feed.quality import default_shuffle
from tarloom.read.feed.share import Share
from tarloom.read.feed.sources import Cache, Source


@dataclass(frozen=True, kw_only=True)
class FeedOptions:
    """Of a feed over a dataset."""

    seed: int = 0
    """Of the order, and of what pictures are cut out."""
    shuffle: bool = True
    """Without it samples come as they lie."""
    window: int | None = None
    """Samples that are shuffled among each other; None for as many as mix well (see quality.py)."""
    block: int | None = None
    """Rows that follow each other into one window, at most; None for what is read in good ranges."""
    columns: tuple[str, ...] | None = None
    """Members and columns of a batch; None for those the dataset selects."""
    decode: Decode | Mapping[str, Decode] | None = None
    """Of all pictures, or of each member named; None for what the dataset decodes."""
    drop_last: bool = False
    """Leave out a last step that is smaller than the others."""
    memory_bytes: int = GIB
    """Of samples that are read ahead."""
    cache: str | None = None
    """A folder of this machine that keeps what is read of shards in an object store; processes may share it."""
    cache_bytes: int = 64 * GIB
    """What it may hold; what was not used for the longest time makes room."""
    max_skipped: int | None = 1000
    """Bad samples that may be replaced in an epoch, by each process that reads; None for no limit."""

    def check(self) -> None:
        """Raises UsageError for values that cannot be."""
        for name in ("window", "block", "memory_bytes", "cache_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")


def new_feed(dataset: Dataset, batch_size: int, options: FeedOptions, *, rank: int, world_size: int) -> Feed:
    """Raises UsageError for values that cannot be, and for a dataset without samples."""
    options.check()
    _check_place(batch_size, rank, world_size)
    decode = _decode(dataset, options.decode)
    chosen = dataset if options.columns is None else dataset.select(*options.columns)
    cache = None if options.cache is None else Cache(folder=options.cache, limit=options.cache_bytes)
    source = Source(_undecoded(chosen), cache)
    if not source.rows.sum():
        raise UsageError(f"{dataset.path}: has no samples to feed; look at its condition, or run: tarloom info")
    order = Order(source.rows, _shuffle(options, source.tar_bytes))
    return Feed(
        [source],
        Sequence(orders=(order,), mix=One(samples=len(order))),
        Assembly(decode=decode, seed=options.seed),
        Share(batch_size=batch_size, rank=rank, world_size=world_size),
        drop_last=options.drop_last,
        memory_bytes=options.memory_bytes,
        max_skipped=options.max_skipped,
    )


def _shuffle(options: FeedOptions, sample_bytes: int) -> Shuffle | None:
    """What was said, and the defaults for what was not."""
    found = default_shuffle(options.seed, sample_bytes)
    given = {name: value for name in ("window", "block") if (value := getattr(options, name)) is not None}
    return replace(found, **given) if options.shuffle else None


def _check_place(batch_size: int, rank: int, world_size: int) -> None:
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, not {batch_size}")
    if not 0 <= rank < world_size:
        raise UsageError(f"rank must be at least 0 and less than world_size, not {rank} of {world_size}")


def _decode(dataset: Dataset, decode: Decode | Mapping[str, Decode] | None) -> Mapping[str, Any]:
    if decode is None:
        return dataset.view.decoded
    if isinstance(decode, Mapping):
        return {**dataset.view.decoded, **decode}
    return {**dataset.view.decoded, **{name: decode for name in dataset.members if name in IMAGE_MEMBERS}}


def _undecoded(dataset: Dataset) -> Dataset:
    return replace(dataset, decode=())
