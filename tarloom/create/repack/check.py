"""What makes repacking impossible, found before it begins: options for lists, keys that come twice, members that would
be overwritten, sidecars that do not belong together."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tarloom.create.config import CreateConfig, ImageOptions
from tarloom.create.plan import read_plans
from tarloom.create.sources.keys import BUILT_IN
from tarloom.create.sources.list_reader import can_be_text
from tarloom.errors import UsageError
from tarloom.format.index import ShardIndex
from tarloom.format.layout import (
    IMAGE_MEMBERS,
    PLAN,
    finished_without_tar,
    is_shard_file,
    planned_among,
    sidecar_name,
    stats_name,
    tar_name,
)
from tarloom.format.storage import Storage, links_to_nothing

logger = logging.getLogger(__name__)

SUSPECTS = 1000
"""Keys looked at one by one: that so many hashes come twice and no key does cannot be."""


@dataclass(frozen=True, kw_only=True)
class CarriedStage:
    """What the sidecars of one stage have in common, so that their rows can be mixed."""

    fingerprint: Mapping[str, str]
    schema: pa.Schema
    shard: str
    """One that has it, for messages."""
    carried: str | None
    """Theirs; "changed" if any of them says so (tarloom.format.sidecar)."""


def check_repacking(config: CreateConfig) -> None:
    """Raises UsageError for options that mean nothing where the source is shards."""
    lists = config.lists
    of_lists = {
        "caption_col": lists.caption_col is not None,
        "save_additional_columns": bool(lists.save_additional_columns),
        "bbox_col": lists.bbox_col is not None,
        "verify_hash": lists.verify_hash is not None,
        "dedup_urls": lists.dedup_urls,
    }
    given = [name for name, is_given in of_lists.items() if is_given]
    if given:
        raise UsageError(f"{', '.join(given)}: only for URL lists; shards keep all columns that their metadata has")
    if config.sharding.output_format != "webdataset":
        raise UsageError(f"output_format {config.sharding.output_format}: shards are repacked as webdataset only")
    if config.downloader != "tarloom":
        raise UsageError(f"downloader {config.downloader}: shards are not downloaded; leave it out")
    if config.images == ImageOptions():
        default = f"image_size {config.images.image_size}, resize_mode {config.images.resize_mode}"
        logger.warning("pictures are resized as by default (%s); --disable-all-reencoding keeps them", default)


def check_none_is_lost(source: str, storage: Storage, names: Collection[str]) -> None:
    """Raises UsageError for a shard of a folder whose tar is gone: its samples would be missed by nobody later on."""
    finished = finished_without_tar(names) if PLAN in names else ()
    lost = [*map(tar_name, finished), *links_to_nothing(storage, is_shard_file)]
    if lost:
        do = "run its creation again, bring it back, or give those that are there, as 'FOLDER/*.tar'"
        raise UsageError(f"source {source}: {lost[0]} is gone; {do}")


def tell_of_unfinished(storage: Storage, names: Collection[str]) -> None:
    """Warn where the creation of the source is not at its end: what is left out is not missed by anything later on."""
    try:
        plans = read_plans(storage)
    except UsageError:  # another version's, whose shards can be read all the same
        return
    suffix = stats_name("")
    done = [name.removesuffix(suffix) for name in names if name.endswith(suffix)]
    planned = sum(plan.shards for plan in plans)
    there = (planned_among(done, first=p.first_shard, count=p.shards, digits=p.digits) for p in plans)
    absent = planned - sum(there)
    if absent:
        text = "source %s: %d of %d planned shards are not finished and are left out; finish its creation first"
        logger.warning(text, storage.url, absent, planned)


def check_key_column(key_from: str, columns: pa.Schema) -> None:
    """Raises UsageError where keys are to come from a column that is not there, or is nothing like text."""
    if key_from in BUILT_IN:
        return
    if key_from not in columns.names:
        known = ", ".join(columns.names) or "none"
        raise UsageError(f"key_from {key_from}: the source's metadata has no such column; it has {known}")
    kind = columns.field(key_from).type
    if not can_be_text(kind):
        raise UsageError(f"key_from {key_from}: the column holds {kind}, not text")


def check_same_stage(name: str, one: CarriedStage, other: CarriedStage, storage: Storage) -> None:
    """Raises UsageError where two sidecars of one name cannot become one."""
    if dict(one.fingerprint) == dict(other.fingerprint) and one.schema == other.schema:
        return
    places = " and ".join(storage.describe(sidecar_name(stage.shard, name)) for stage in (one, other))
    raise UsageError(f"{places} were made differently; run the stage over all shards with overwrite, or delete one")


def check_not_overwritten(index: ShardIndex, images: ImageOptions, where: str) -> None:
    """Raises UsageError where a picture in its new format would take the name of another member of its sample."""
    new = images.encode_format
    if images.disable_all_reencoding or new not in index.extensions:
        return
    preferred = [name for name in IMAGE_MEMBERS[: IMAGE_MEMBERS.index(new)] if name in index.extensions]
    for name in preferred:
        both = np.flatnonzero(pc.and_(_has(index, name), _has(index, new)).to_numpy(zero_copy_only=False))
        if len(both):
            key = index.keys[int(both[0])]
            raise UsageError(f"{where}: sample {key} has {name} and {new}, so the picture cannot become {new} as well")


def find_duplicate(
    hashes: Sequence[npt.NDArray[np.int64]], keys_of: Callable[[int], list[str]]
) -> tuple[str, int, int] | None:
    """A key that two shards have, and the numbers of these shards.

    hashes: of each shard's keys. keys_of: the keys of the shard at this place.
    """
    known = np.concatenate([*hashes, np.zeros(0, np.int64)])
    known.sort()
    suspects = np.unique(known[1:][known[1:] == known[:-1]])[:SUSPECTS]
    seen: dict[str, int] = {}
    for number, found in enumerate(hashes):
        places = np.flatnonzero(np.isin(found, suspects)) if len(suspects) else ()
        keys = keys_of(number) if len(places) else []
        for place in places:
            first = seen.setdefault(keys[place], number)
            if first != number:
                return keys[place], first, number
    return None


def _has(index: ShardIndex, extension: str) -> pa.BooleanArray:
    return pc.is_valid(index.sizes(extension))
