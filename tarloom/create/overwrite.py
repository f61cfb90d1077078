"""Deletes the shards of an output that is to be made anew: what creation and stages wrote for them, nothing else."""

import os
import re
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor

from tarloom.create.plan import Plan, read_plans
from tarloom.create.sources.inputs import InputFile
from tarloom.errors import UsageError
from tarloom.format.ahead import THREADS
from tarloom.format.layout import DUPLICATES, PLAN, PRIVATE, finished_shards, is_plan, is_shard_file, stats_name
from tarloom.format.storage import Storage

_FILE = re.compile(
    rf"(?:{PRIVATE}/index/)?(\d+)(?:\.tar|{stats_name('')}|\.parquet|\.[A-Za-z0-9][A-Za-z0-9_-]*\.parquet|/.+)"
)
"""A file of a numbered shard: tar, stats, metadata or index, sidecar, picture in its folder."""


def delete_shards(storage: Storage, source: Iterable[InputFile]) -> None:
    """Delete an output's shards, their sidecars and its plans.

    Raises UsageError where there are other shards, or one of these files is of the source.

    Where there is a plan, readers go by the stats: these are deleted first, so that no shard is read that is half
    deleted. What says that the rest is the output's, the plan or else the stats, is deleted last.
    """
    names = {entry.name for entry in storage.list()}
    doomed = files_of_shards(names, shards_of_output(names, _plans(storage)))
    foreign = sorted(name for name in names - doomed if is_shard_file(name))
    if foreign:
        raise UsageError(
            f"output {storage.url}: {foreign[0]} is not this output's, so it is not overwritten; choose another folder"
        )
    _check_spared(storage, doomed, source)
    stats = {name for name in doomed if name.endswith(stats_name(""))}
    plans = {name for name in names if is_plan(name)} - {PLAN}
    first = stats if PLAN in names else set()
    with ThreadPoolExecutor(THREADS) as pool:
        for group in (first, doomed - stats, stats - first, plans | {DUPLICATES}, {PLAN}):
            list(pool.map(storage.delete, sorted(group & names)))


def shards_of_output(names: Collection[str], plans: Iterable[Plan]) -> set[str]:
    """The shards that were planned here, and those that are numbered and done: of a run without a plan."""
    planned = {plan.name(number) for plan in plans for number in range(plan.shards)}
    return planned | set(finished_shards(names))


def files_of_shards(names: Collection[str], shards: Collection[str]) -> set[str]:
    """All files among `names` that are of these shards, whatever their output format."""
    return {name for name in names if (match := _FILE.fullmatch(name)) and match[1] in shards}


def _check_spared(storage: Storage, doomed: Iterable[str], source: Iterable[InputFile]) -> None:
    places = {_place(storage, name) for name in doomed}
    for file in source:
        if _place(file.storage, file.entry.name) in places:
            raise UsageError(f"source {file.where}: would be deleted with the output's shards; copy it elsewhere first")


def _place(storage: Storage, name: str) -> str:
    """Where a file lies, links followed."""
    path = storage.local_path(name)
    return os.path.realpath(path) if path else storage.describe(name)


def _plans(storage: Storage) -> list[Plan]:
    """Those that can be understood: what another version planned is overwritten all the same."""
    try:
        return read_plans(storage)
    except UsageError:
        return []
