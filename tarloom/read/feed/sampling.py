"""Which samples a feed has, and in which order: of a dataset alone, of several by weights, or of buckets of one."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Final, Literal

from tarloom.errors import UsageError
from tarloom.read.dataset import Dataset
from tarloom.read.feed.buckets import Bucket, Buckets, By
from tarloom.read.feed.fetching.sources import Cache, Source
from tarloom.read.feed.mixture import Mixture
from tarloom.read.feed.order.mixing import FeedOrder, Mix, Mixed, One, by_size, by_weights
from tarloom.read.feed.order.places import Order
from tarloom.read.feed.order.quality import default_shuffle

BucketWeights = Literal["equal"] | Mapping[str, float]
NO_BUCKET: Final = "(no bucket)"
"""The name of the samples in no bucket, among those that are left out."""
Sampled = tuple[list[Source], FeedOrder]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How samples are drawn. Raises UsageError where there are none, or where options cannot be."""

    seed: int
    shuffle: bool = True
    window: int | None = None
    """None for the default of order/quality.py."""
    block: int | None = None
    cache: Cache | None = None

    def of_one(self, dataset: Dataset) -> Sampled:
        """All samples of a dataset."""
        source = self._filled(dataset)
        return self._sampled([source], One(samples=int(source.rows.sum())))

    def of_several(self, mixture: Mixture) -> Sampled:
        """Datasets by weights."""
        sources = [self._filled(dataset) for dataset in mixture.datasets]
        size = mixture.samples or sum(int(source.rows.sum()) for source in sources)
        mix = by_weights(mixture.weights, samples=size, seed=self.seed)
        for dataset, weight, count in zip(mixture.datasets, mixture.weights, mix.groups, strict=True):
            if not count:
                raise UsageError(f"{dataset.path}: a weight of {weight} gives it none of {size} samples; raise it")
        return self._sampled(sources, mix)

    def of_buckets(self, dataset: Dataset, by: By, *, group: int, weights: BucketWeights | None) -> Sampled:
        """Groups of samples of one bucket; as many of each as it has, or by weights."""
        buckets = Buckets(dataset, by, self.cache)
        sizes = dict(zip(buckets.names, buckets.counts.sum(axis=1).tolist(), strict=True))
        mix = self._bucketed(sizes, weights, group, dataset.path)
        drawn = [number for number, count in enumerate(mix.groups) if count]
        left = _left_out(sizes, mix) | {NO_BUCKET: int(buckets.whole.rows.sum()) - sum(sizes.values())}
        if weights is None:
            _warn_of_small(sizes, group)
        sources, order = self._sampled([Bucket(buckets, number) for number in drawn], mix.of(drawn))
        return sources, replace(order, left_out={name: count for name, count in left.items() if count})

    def _bucketed(self, sizes: Mapping[str, int], weights: BucketWeights | None, group: int, where: str) -> Mixed:
        """Of all buckets. Raises UsageError where no group comes of any."""
        if weights is None:
            mix = by_size(list(sizes.values()), seed=self.seed, group=group)
        else:
            shares = _shares(sizes, weights, where)
            samples = sum(size for size, share in zip(sizes.values(), shares, strict=True) if share)
            mix = by_weights(shares, samples=samples, seed=self.seed, group=group)
            never = [name for name, share, count in zip(sizes, shares, mix.groups, strict=True) if share and not count]
            if never and mix.samples:
                few = f"no group of {group} in an epoch of {samples} samples"
                raise UsageError(f"{where}: bucket_weights give {never[0]!r} {few}; give a smaller bucket_size")
        if not mix.samples:
            raise UsageError(f"{where}: no bucket has {group} samples; give a smaller bucket_size, or other buckets")
        return mix

    def _filled(self, dataset: Dataset) -> Source:
        source = Source(dataset, self.cache)
        if not source.rows.sum():
            raise UsageError(f"{dataset.path}: has no samples to feed; look at its condition, or run: tarloom info")
        return source

    def _sampled(self, sources: Sequence[Source], mix: Mix) -> Sampled:
        shuffle = default_shuffle(self.seed, max(source.tar_bytes for source in sources))
        given = {name: value for name in ("window", "block") if (value := getattr(self, name)) is not None}
        orders = [Order(source.rows, replace(shuffle, **given) if self.shuffle else None) for source in sources]
        return list(sources), FeedOrder(orders=tuple(orders), mix=mix)


def _shares(sizes: Mapping[str, int], weights: BucketWeights, where: str) -> list[float]:
    """Of each bucket; 0 for those without samples, or without a weight."""
    given = dict.fromkeys(sizes, 1.0) if isinstance(weights, str) else weights
    if isinstance(weights, str) and weights != "equal":
        raise UsageError(f'bucket_weights are "equal", or a weight for each bucket, not {weights!r}')
    for name, weight in given.items():
        if name not in sizes:
            raise UsageError(
                f"{where}: bucket_weights: there is no bucket {name!r}; there are {', '.join(sizes)}"[:500]
            )
        if not (isinstance(weight, Real) and weight >= 0 and math.isfinite(weight)):
            raise UsageError(f"bucket_weights: {name} has {weight!r:.80}; give a number, 0 or more")
    shares = [float(given.get(name, 0)) if size else 0.0 for name, size in sizes.items()]
    if not sum(shares):
        raise UsageError(f"{where}: bucket_weights leave no bucket that has samples")
    return shares


def _left_out(sizes: Mapping[str, int], mix: Mixed) -> dict[str, int]:
    found = zip(sizes.items(), mix.groups, mix.left_out.tolist(), strict=True)
    return {name: left if count else size for (name, size), count, left in found}


def _warn_of_small(sizes: Mapping[str, int], group: int) -> None:
    never = [name for name, size in sizes.items() if 0 < size < group]
    if never:
        names = ", ".join(never[:10]) + (", ..." if len(never) > 10 else "")
        lost = sum(sizes[name] for name in never)
        warnings.warn(
            f"{len(never)} buckets have fewer samples than bucket_size {group}, so that none of their {lost} samples "
            f"come: {names}; give a smaller bucket_size, or bucket_weights",
            stacklevel=2,
        )
