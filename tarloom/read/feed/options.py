"""What users say of a feed, and the feed that is made of it."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from os import PathLike
from typing import Any, get_args

import numpy as np

from tarloom.errors import UsageError
from tarloom.format.layout import IMAGE_MEMBERS
from tarloom.read.dataset import Dataset
from tarloom.read.feed.batches.assemble import Assembly, Decode
from tarloom.read.feed.batches.captions import Captions
from tarloom.read.feed.batches.pictures import Fit
from tarloom.read.feed.buckets import By
from tarloom.read.feed.feed import GIB, Feed
from tarloom.read.feed.fetching.sources import Cache
from tarloom.read.feed.mixture import Mixture
from tarloom.read.feed.order.share import Share
from tarloom.read.feed.sampling import BucketWeights, Sampled, Sampling
from tarloom.read.feed.state import whole
from tarloom.read.selection import names_given
from tarloom.read.view import DecodeAs


@dataclass(frozen=True, kw_only=True)
class FeedOptions:
    """Of a feed over a dataset."""

    seed: int = 0
    """Of the order, and of what pictures are cut out."""
    shuffle: bool = True
    """Without it samples come as they lie."""
    window: int | None = None
    """Samples that are shuffled among each other; None for as many as mix well (see order/quality.py)."""
    block: int | None = None
    """Rows that follow each other into one window, at most; None for what is read in good ranges."""
    buckets: By | None = None
    """A column, such as "class", or conditions by name, such as {"wide": "width > height"}: samples that follow each
    other, bucket_size of them, are of one bucket."""
    bucket_weights: BucketWeights | None = None
    """"equal", or a weight for each bucket; None for as many samples of each as it has."""
    bucket_size: int | None = None
    """None for batch_size: batches of one bucket each. 1 with weights balances classes within batches."""
    columns: tuple[str, ...] | None = None
    """Members and columns of a batch; None for those the dataset selects."""
    decode: Decode | Mapping[str, Decode] | None = None
    """Of all pictures, or of each member named; None for what the dataset decodes."""
    captions: Captions | None = None
    """One text of several for each sample."""
    drop_last: bool = False
    """Leave out a last step that is smaller than the others."""
    memory_bytes: int = GIB
    """Of samples that are read ahead."""
    cache: str | None = None
    """A folder of this machine that keeps what is read of shards in an object store; processes may share it."""
    cache_bytes: int = 64 * GIB
    """What it may hold; what was not used for the longest time makes room."""
    memory_map: bool = False
    """Decode members of local tars where they lie, mapped into memory (mapped.py says what that asks of their owner);
    others are read as ever."""
    max_skipped: int | None = 1000
    """Bad samples that may be replaced in an epoch, by each process that reads; None for no limit."""

    def __post_init__(self) -> None:
        for name in ("seed", "window", "block", "bucket_size"):  # states name them: as Python's numbers, not numpy's
            value = getattr(self, name)
            if value is not None or name == "seed":
                object.__setattr__(self, name, whole(name, value))

    def check(self) -> None:
        """Raises UsageError for values that cannot be."""
        names_given("columns", self.columns or ())
        for name, kinds, like in _KINDS:
            value = getattr(self, name)
            if value is not None and not isinstance(value, kinds):
                raise UsageError(f"{name} cannot be {value!r}; give it as {name}={like}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name} must be at least {least}, not {value}")
        for name in ("window", "block"):
            if (getattr(self, name) or 0) > sys.maxsize:
                raise UsageError(f"{name} must be at most {sys.maxsize}, which stands for all samples")


_KINDS: tuple[tuple[str, tuple[type, ...], str], ...] = (
    ("captions", (Captions,), 'tarloom.Captions(of={"caption": 1})'),
    ("buckets", (str, Mapping), '"class", or {"wide": "width > height"}'),
    ("bucket_weights", (str, Mapping), '"equal", or {"cat": 2, "dog": 1}'),
    ("shuffle", (Integral, np.bool_), "False"),
    ("drop_last", (Integral, np.bool_), "True"),
    ("memory_bytes", (Real,), "4 << 30"),
    ("cache", (str, PathLike), '"/scratch/shards"'),
    ("cache_bytes", (Real,), "64 << 30"),
    ("memory_map", (Integral, np.bool_), "True"),
    ("max_skipped", (Real,), "100"),
)
"""What options are that may be thought to be something else, and how they are written."""
_LEAST = {"window": 1, "block": 1, "bucket_size": 1, "memory_bytes": 1, "cache_bytes": 1, "max_skipped": 0}


def feed_options(given: Mapping[str, Any]) -> FeedOptions:
    """Raises UsageError for names that are none."""
    known = [field.name for field in fields(FeedOptions)]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise UsageError(
            f"a feed has no {', '.join(unknown)}; its options are {', '.join(known)}; processes that read and pinned "
            "memory are those of a loader: feed.loader(num_workers=4, pin_memory=True)"
        )
    return FeedOptions(**given)


def new_feed(data: Dataset | Mixture, batch_size: int, options: FeedOptions, *, rank: int, world_size: int) -> Feed:
    """Raises UsageError for values that cannot be, and for a dataset without samples, or without a step."""
    options.check()
    batch_size, rank = whole("batch_size", batch_size), whole("rank", rank)
    world_size = whole("world_size", world_size)
    _check_place(batch_size, rank, world_size)
    parts = data.datasets if isinstance(data, Mixture) else (data,)
    chosen = parts if options.columns is None else tuple(part.select(*options.columns) for part in parts)
    captioned = tuple(_with_captions(part, options.captions) for part in chosen)
    undecoded = tuple(replace(part, decode=()) for part in captioned)
    _check_alike(undecoded)
    bare = replace(data, datasets=undecoded) if isinstance(data, Mixture) else undecoded[0]
    sources, order = _sampled(bare, batch_size, options)
    feed = Feed(
        sources,
        order,
        Assembly(
            decode=_decode_alike(chosen, options.decode),
            seed=options.seed,
            captions=options.captions,
            left_out=frozenset(captioned[0].schema.names) - frozenset(chosen[0].schema.names),
        ),
        Share(batch_size=batch_size, rank=rank, world_size=world_size),
        drop_last=options.drop_last,
        memory_bytes=options.memory_bytes,
        memory_map=bool(options.memory_map),
        max_skipped=options.max_skipped,
    )
    if options.drop_last and not len(feed):
        raise UsageError(
            f"an epoch has {order.samples} samples, no whole step of {feed.step_samples}, and drop_last leaves out "
            "what is smaller; give a smaller batch_size"
        )
    return feed


def _sampled(data: Dataset | Mixture, batch_size: int, options: FeedOptions) -> Sampled:
    cache = None if options.cache is None else Cache(folder=options.cache, limit=options.cache_bytes)
    sampling = Sampling(
        seed=options.seed, shuffle=options.shuffle, window=options.window, block=options.block, cache=cache
    )
    if options.buckets is None:
        for name in ("bucket_weights", "bucket_size"):
            if getattr(options, name) is not None:
                raise UsageError(f"{name} is of no use without buckets; name a column: buckets='class'")
        return sampling.of_several(data) if isinstance(data, Mixture) else sampling.of_one(data)
    if isinstance(data, Mixture):
        raise UsageError("buckets are of one dataset; mix datasets, or draw from buckets")
    group = options.bucket_size or batch_size
    if group % batch_size and batch_size % group:
        raise UsageError(f"bucket_size {group} must divide batch_size {batch_size}, or be a multiple of it")
    return sampling.of_buckets(data, options.buckets, group=group, weights=options.bucket_weights)


def _with_captions(dataset: Dataset, captions: Captions | None) -> Dataset:
    """The same with what captions are chosen of. Raises UsageError."""
    if captions is None:
        return dataset
    names = (*dataset.members, *(column.name for column in dataset.joined))
    if captions.name in names:
        raise UsageError(f"captions: {captions.name!r} is a column already; give another name, or leave that one out")
    chosen = dataset.select(*names, *captions.of)
    captions.check(replace(chosen, decode=()).schema)
    return chosen


def _check_alike(datasets: Sequence[Dataset]) -> None:
    """Raises UsageError unless batches of all have the same members and columns."""
    first, *others = datasets
    for other in others:
        differing = sorted({field.name for field in {*first.schema} ^ {*other.schema}})
        if differing:
            names = ", ".join(differing)
            raise UsageError(f"{first.path} and {other.path} differ in {names}; name columns that both have")


def _check_place(batch_size: int, rank: int, world_size: int) -> None:
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, not {batch_size}")
    if not 0 <= rank < world_size:
        raise UsageError(f"rank must be at least 0 and less than world_size, not {rank} of {world_size}")


def _decode_alike(datasets: Sequence[Dataset], decode: Decode | Mapping[str, Decode] | None) -> Mapping[str, Any]:
    """As _decode; raises UsageError where that is not the same of all."""
    first, *others = ((dataset.path, _decode(dataset, decode)) for dataset in datasets)
    for path, forms in others:
        differing = sorted(name for name in {*first[1], *forms} if first[1].get(name) != forms.get(name))
        if differing:
            names = ", ".join(differing)
            raise UsageError(f"{first[0]} and {path} decode {names} to different forms; say decode={{...}} for both")
    return first[1]


def _decode(dataset: Dataset, decode: Decode | Mapping[str, Decode] | None) -> Mapping[str, Any]:
    """Members of a batch, and what they are decoded to. Raises UsageError."""
    if decode is None:
        return dataset.view.decoded
    pictures = [name for name in dataset.members if name in IMAGE_MEMBERS]
    asked = decode if isinstance(decode, Mapping) else dict.fromkeys(pictures, decode)
    if not asked and not isinstance(decode, Mapping):
        raise UsageError(f"{dataset.path}: there is no picture among what is selected; decode members by their names")
    for name, form in asked.items():
        if name not in dataset.members:
            raise UsageError(f"{dataset.path}: {name!r} is no member of a batch; decode {', '.join(dataset.members)}")
        if form not in get_args(DecodeAs) and (isinstance(form, type) or not isinstance(form, Fit)):
            forms = ", ".join(get_args(DecodeAs))
            raise UsageError(f"{name} is not decoded to {form!r}; use one of {forms}, or a fit such as RandomCrop(224)")
    return {**dataset.view.decoded, **asked}
