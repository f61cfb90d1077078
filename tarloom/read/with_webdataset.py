"""webdataset itself, over our listing of shards: its own tar reading and grouping, for local files and object stores.

Only opening is ours, so that object stores are read with the credentials and retries of the rest of tarloom, and so
that no address is ever handed to a shell, as webdataset's own openers do. Nothing is decoded but what the dataset says
(by our decoders) or the caller adds; and nothing is unpickled unless the caller says so, as webdataset does by default.
"""

import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from tarloom.engines.base import Worker
from tarloom.engines.local import LocalEngine
from tarloom.errors import BadSample, CorruptShard, ShardError, UsageError, missing_extra
from tarloom.format.storage import Storage
from tarloom.format.tar.compressed import open_tar
from tarloom.format.tar.walk import is_of_a_sample
from tarloom.read.dataset import Dataset
from tarloom.read.ledger import Skipped
from tarloom.read.plan.catalog import ShardFiles
from tarloom.read.samples.decoders import JSON_NULL, RowDecoder
from tarloom.read.scan import ScanConfig, Tallier, Tally
from tarloom.read.view import DecodeAs

try:
    from webdataset import DataPipeline, split_by_node, split_by_worker
    from webdataset.autodecode import basichandlers
    from webdataset.compat import FluidInterface
    from webdataset.filters import default_decoders
    from webdataset.tariterators import group_by_keys, tar_file_expander
except ImportError as error:
    raise missing_extra("webdataset", error) from error


PICKLES = ("pkl", "pickle", "pyd", "pth")
"""Extensions of members that can run code when they are opened."""


class Pipeline(DataPipeline, FluidInterface):  # type: ignore[misc]
    """webdataset's pipeline with its chained methods: decode, map, shuffle, to_tuple, batched, ..."""

    def decode(self, *handlers: Any, post: Sequence[Any] | None = None, **options: Any) -> "Pipeline":
        """webdataset's decode, but that members with pickles stay bytes.

        Whoever trusts the shards calls it with post=[webdataset.autodecode.basichandlers].
        """
        decoded: Pipeline = super().decode(*handlers, post=[but_pickles] if post is None else list(post), **options)
        return decoded

    def xdecode(self, *handlers: Any, **options: Any) -> "Pipeline":
        """webdataset's xdecode, in the same way; whoever trusts the shards gives its `defaults`."""
        safe = [(pattern, handler) for pattern, handler in default_decoders if not _is_pickle(pattern)]
        decoded: Pipeline = super().xdecode(*handlers, **{"defaults": safe, "must_decode": False, **options})
        return decoded


def but_pickles(name: str, data: bytes) -> Any:
    """webdataset's handler for members that are no pictures, for all formats that run no code."""
    return None if _is_pickle(name) else basichandlers(name, data)


def pipeline(dataset: Dataset) -> Pipeline:
    """A pipeline over the dataset's shards: samples are dicts of `__key__`, `__url__` and members as bytes.

    Members are decoded as the dataset says. Shards are divided among torch's ranks and DataLoader workers as webdataset
    does it. Raises UsageError for columns, conditions and policies for errors: webdataset knows members only.
    """
    view = dataset.view
    asked = {"columns": view.columns, "where": view.where, "on_error": view.on_error != "raise"}
    beyond = ", ".join(name for name, value in asked.items() if value)
    if beyond:
        raise UsageError(f"webdataset reads members of whole tars, without {beyond}; use another reader")
    return _pipeline(dataset.catalog.storage, dataset.shards, dataset.selected, view.decoded)


def _is_pickle(name: str) -> bool:
    return name.rpartition(".")[2].lower() in PICKLES


def session(config: ScanConfig) -> AbstractContextManager[None]:
    """Nothing to start."""
    return nullcontext()


def scan(dataset: Dataset, config: ScanConfig, tallier: Tallier) -> Iterator[Tally]:
    """Tallies of shards, or of batches of them in one process: webdataset cannot split a tar."""
    pipeline(dataset)  # raises for what it cannot read
    samples = partial(_samples, dataset.catalog.storage, dataset.selected, dataset.view.decoded)
    if config.num_workers == 1:
        for shard in dataset.shards:
            yield from tallier.of_samples(samples(shard), every=config.batch_size)
        return
    opener = partial(_open_worker, samples, tallier)
    for outcome in LocalEngine(config.num_workers).map(opener, dataset.shards):
        if outcome.result is None:
            raise ShardError(outcome.error or f"{outcome.item.tar.name}: could not be read")
        yield outcome.result


def _pipeline(
    storage: Storage, shards: Sequence[ShardFiles], members: Sequence[str] | None, decode: Mapping[str, DecodeAs]
) -> Pipeline:
    sources = [{"url": storage.describe(shard.tar.name), "shard": shard} for shard in shards]
    pipeline = Pipeline(
        partial(iter, sources),
        split_by_node,
        split_by_worker,
        partial(_opened, storage),
        partial(tar_file_expander, select_files=is_of_a_sample),
        partial(group_by_keys, suffixes=None if members is None else frozenset(members)),
    )
    return pipeline.map(partial(_decoded, decode)) if decode else pipeline


def _decoded(decode: Mapping[str, DecodeAs], sample: dict[str, Any]) -> dict[str, Any]:
    """The sample with these members decoded. Raises BadSample."""
    wanted = {member: form for member, form in decode.items() if member in sample}
    made = RowDecoder(wanted, "sample", sample["__url__"])((sample["__key__"], [sample[m] for m in wanted]))
    if isinstance(made, Skipped):
        raise BadSample(f"{made}; mend it")
    values = (None if value is JSON_NULL else value for value in made)
    return {**sample, **dict(zip(wanted, values, strict=True))}


def _opened(storage: Storage, shards: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What webdataset's url_opener yields, with streams of ours that are closed when the shard has been read."""
    for shard in shards:
        with open_tar(storage, shard["shard"].tar) as stream:
            yield {"url": shard["url"], "stream": stream}


def _samples(
    storage: Storage, members: Sequence[str] | None, decode: Mapping[str, DecodeAs], shard: ShardFiles
) -> Iterator[dict[str, Any]]:
    try:
        yield from _pipeline(storage, [shard], members, decode)
    except (tarfile.TarError, ValueError, EOFError) as error:
        where, reason = storage.describe(shard.tar.name), str(error.args[0] if error.args else error)
        raise CorruptShard(f"{where}: webdataset cannot read it ({reason}); copy it again or make it anew") from error


def _open_worker(samples: Any, tallier: Tallier) -> Worker[ShardFiles, Tally]:
    return partial(_tally_shard, samples, tallier)


def _tally_shard(samples: Any, tallier: Tallier, shard: ShardFiles) -> Tally:
    return tallier.merged(tallier.of_samples(samples(shard), every=1 << 20))
