"""How feeds are asked for: of a dataset, or of several that are mixed."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

if TYPE_CHECKING:
    from tarloom.read.feed.batches.assemble import Decode
    from tarloom.read.feed.batches.captions import Captions
    from tarloom.read.feed.buckets import By
    from tarloom.read.feed.feed import Feed
    from tarloom.read.feed.sampling import BucketWeights
    from tarloom.read.feed.torch import TorchFeed


class FeedKeywords(TypedDict, total=False):
    """The fields of FeedOptions, which says what they mean: for editors and type checkers. A test compares both."""

    seed: int
    shuffle: bool
    window: int | None
    block: int | None
    buckets: "By | None"
    bucket_weights: "BucketWeights | None"
    bucket_size: int | None
    columns: tuple[str, ...] | None
    decode: "Decode | Mapping[str, Decode] | None"
    captions: "Captions | None"
    drop_last: bool
    memory_bytes: int
    cache: str | None
    cache_bytes: int
    memory_map: bool
    max_skipped: int | None


class Feedable:
    """What a feed can be made of."""

    def to_numpy(
        self, batch_size: int, *, rank: int = 0, world_size: int = 1, **options: Unpack[FeedKeywords]
    ) -> "Feed":
        """A feed of batches for training, resumable and divided among ranks: dicts of numpy arrays and of lists.

        batch_size: of a rank. options: see FeedOptions. Of datasets that are mixed, all must yield the same members and
        columns: columns=(...) selects them of each. Raises UsageError.
        """
        from tarloom.read.feed.options import feed_options, new_feed

        data: Any = self
        return new_feed(data, batch_size, feed_options(options), rank=rank, world_size=world_size)

    def to_torch(
        self,
        batch_size: int,
        *,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        **options: Unpack[FeedKeywords],
    ) -> "TorchFeed":
        """The same with tensors for arrays, alone or in a DataLoader with batch_size=None: see TorchFeed.

        transform: from a batch to what is yielded. rank, world_size: from torch.distributed where it is initialised,
        else one rank.
        """
        from tarloom.read.feed.torch import TorchFeed, place

        rank, world_size = place(rank, world_size)
        feed = self.to_numpy(batch_size, rank=rank, world_size=world_size, **options)
        return TorchFeed(feed, transform=transform)
