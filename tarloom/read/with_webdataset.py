"""webdataset itself, over our listing of shards: its own tar reading and grouping, for local files and object stores.

Only opening is ours, so that object stores are read with the credentials and retries of the rest of tarloom, and so
that no address is ever handed to a shell, as webdataset's own openers do. Nothing is decoded unless the caller adds it.
"""

import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from tarloom.engines.base import Worker
from tarloom.engines.local import LocalEngine
from tarloom.errors import CorruptShard, ShardError, UsageError, missing_extra
from tarloom.format.compressed import open_tar
from tarloom.format.storage import Storage
from tarloom.format.tar import is_of_a_sample
from tarloom.read.catalog import ShardFiles
from tarloom.read.dataset import Dataset
from tarloom.read.scan import ScanConfig, Tallier, Tally

try:
    from webdataset import DataPipeline, split_by_node, split_by_worker
    from webdataset.compat import FluidInterface
    from webdataset.tariterators import group_by_keys, tar_file_expander
except ImportError as error:
    raise missing_extra("webdataset", error) from error


class Pipeline(DataPipeline, FluidInterface):  # type: ignore[misc]
    """webdataset's pipeline with its chained methods: decode, shuffle, to_tuple, batched, ..."""


def pipeline(dataset: Dataset) -> Pipeline:
    """A pipeline over the dataset's shards: samples are dicts of `__key__`, `__url__` and members as bytes.

    Shards are divided among torch's ranks and DataLoader workers as webdataset does it. Raises UsageError where joined
    columns are selected: webdataset knows members only.
    """
    if dataset.joined:
        names = ", ".join(column.name for column in dataset.joined)
        raise UsageError(f"webdataset reads members of tars only, not {names}; select members, or use another reader")
    return _pipeline(dataset.catalog.storage, dataset.shards, dataset.selected)


def session(config: ScanConfig) -> AbstractContextManager[None]:
    """Nothing to start."""
    return nullcontext()


def scan(dataset: Dataset, config: ScanConfig, tallier: Tallier) -> Iterator[Tally]:
    """Tallies of shards, or of batches of them in one process: webdataset cannot split a tar."""
    pipeline(dataset)  # raises for what it cannot read
    samples = partial(_samples, dataset.catalog.storage, dataset.selected)
    if config.num_workers == 1:
        for shard in dataset.shards:
            yield from tallier.of_samples(samples(shard), every=config.batch_size)
        return
    opener = partial(_open_worker, samples, tallier)
    for outcome in LocalEngine(config.num_workers).map(opener, dataset.shards):
        if outcome.result is None:
            raise ShardError(outcome.error or f"{outcome.item.tar.name}: could not be read")
        yield outcome.result


def _pipeline(storage: Storage, shards: Sequence[ShardFiles], members: Sequence[str] | None) -> Pipeline:
    sources = [{"url": storage.describe(shard.tar.name), "shard": shard} for shard in shards]
    return Pipeline(
        partial(iter, sources),
        split_by_node,
        split_by_worker,
        partial(_opened, storage),
        partial(tar_file_expander, select_files=is_of_a_sample),
        partial(group_by_keys, suffixes=None if members is None else frozenset(members)),
    )


def _opened(storage: Storage, shards: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What webdataset's url_opener yields, with streams of ours that are closed when the shard has been read."""
    for shard in shards:
        with open_tar(storage, shard["shard"].tar) as stream:
            yield {"url": shard["url"], "stream": stream}


def _samples(storage: Storage, members: Sequence[str] | None, shard: ShardFiles) -> Iterator[dict[str, Any]]:
    try:
        yield from _pipeline(storage, [shard], members)
    except (tarfile.TarError, ValueError, EOFError) as error:
        where, reason = storage.describe(shard.tar.name), str(error.args[0] if error.args else error)
        raise CorruptShard(f"{where}: webdataset cannot read it ({reason}); copy it again or make it anew") from error


def _open_worker(samples: Any, tallier: Tallier) -> Worker[ShardFiles, Tally]:
    return partial(_tally_shard, samples, tallier)


def _tally_shard(samples: Any, tallier: Tallier, shard: ShardFiles) -> Tally:
    whole = tallier.empty()
    for tally in tallier.of_samples(samples(shard), every=1 << 20):
        whole.merge(tally, show=tallier.show)
    return whole
