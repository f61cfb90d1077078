"""What every feed must do: go on from any saved state, in a new process, with exactly what was still to come.

There is one assertion, `assert_goes_on`. What was to come is told by a feed of one rank with batches of one sample, so
that it also says: the order does not depend on ranks, batch sizes or workers.
"""

import hashlib
import itertools
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import tarloom
from tarloom.format.index_load import scan_index
from tarloom.format.storage import LocalStorage
from tarloom.read.dataset import Dataset
from tarloom.read.feed import options  # noqa: F401  # loaded once, by the server that forks new processes
from tarloom.read.feed.batches import fitting  # noqa: F401  # so is this
from tarloom.read.feed.feed import Feed, StepStride
from tarloom.read.feed.mixture import mix
from tests.format.raw import write_parquet, write_sidecar, write_stats, write_tar
from tests.read.sample_sets import png_of

SHARDS = (23, 1, 17, 9, 31)
"""Samples of each."""
BAD = frozenset({5, 6, 23, 40, 49, 80})
"""Whose picture is none: neighbours, a whole shard, the last one."""
LACKING = 60
"""Has no picture."""


def write_resumable(folder: Path, first: int = 0) -> Path:
    """Shards of very different sizes with small pictures, classes, and captions."""
    rows = iter(range(first, first + sum(SHARDS)))
    for number, size in enumerate(SHARDS):
        mine, shard = list(itertools.islice(rows, size)), f"{number:05d}"
        keys = [f"{row:09d}" for row in mine]
        write_tar(folder / f"{shard}.tar", [(key, members_of(row)) for key, row in zip(keys, mine, strict=True)])
        columns = {"class": ["abc"[row * row % 3] for row in mine], "width": [8 + row % 5 for row in mine]}
        write_parquet(folder / f"{shard}.parquet", {"key": keys, "status": ["success"] * size, **columns})
        write_stats(folder, shard, size, 0, None)
        identity = scan_index(LocalStorage(str(folder)), shard).identity
        write_sidecar(folder, shard, "caption", keys, {"text": [f"picture {row}" for row in mine]}, identity)
    return folder


def members_of(row: int) -> dict[str, bytes]:
    picture = b"no picture" if row in BAD else png_of(row)
    return {"json": json.dumps({"row": row}).encode()} | ({} if row == LACKING else {"png": picture})


@cache
def _opened(folder: str) -> Dataset:
    return tarloom.open(folder)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a feed is made of, in words that travel to new processes."""

    folders: tuple[str, ...]
    where: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def feed(self, batch_size: int, *, rank: int = 0, world_size: int = 1) -> Feed:
        opened = [_opened(folder) for folder in self.folders]
        data = [dataset if self.where is None else dataset.where(self.where) for dataset in opened]
        one = data[0] if len(data) == 1 else mix(*zip(data, (0.7, 0.3), strict=True), samples=90)
        return one.to_numpy(batch_size, rank=rank, world_size=world_size, **self.options)

    def feeds(self, layout: "Layout") -> list[Feed]:
        """Of all ranks."""
        size = layout.world_size
        return [self.feed(layout.batch_size, rank=rank, world_size=size) for rank in range(size)]

    def order(self, epoch: int) -> list[str]:
        """All samples of an epoch, as a feed of one rank and batches of one sample has them."""
        key = f"{self} {epoch}"
        if key not in _ORDERS:
            feed = self.feed(1)
            feed.set_epoch(epoch)
            _ORDERS[key] = [sample for batch in feed for sample in samples_of(batch)]
        return _ORDERS[key]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a feed is read: by how many ranks, in batches of how many samples, by how many workers of each (or none)."""

    world_size: int = 1
    batch_size: int = 1
    workers: int = 0

    @property
    def step(self) -> int:
        return self.world_size * self.batch_size


Step = list[list[str]]
"""Of each rank, its samples: key and all that the batch has of them, in short."""
State = Mapping[str, Any]
_ORDERS: dict[str, list[str]] = {}


def assert_goes_on(recipe: Recipe, saved: Layout, restored: Layout, *, every: int = 1) -> int:
    """Save the state behind every so many steps, restore each in a new process, and compare all that remains.

    In each step must be the samples that come next in the order, and ranks must have equally many. How many states
    there were is returned.
    """
    states = [state for state in in_new_process(states_of, recipe, saved)[::every] if _fits(state, restored, recipe)]
    for state, rest in zip(states, in_new_process(rests_of, recipe, restored, states), strict=True):
        for epoch, steps in zip(itertools.count(state["epoch"]), rest, strict=False):
            begin = state["samples"] if epoch == state["epoch"] else 0
            _assert_next(steps, recipe.order(epoch)[begin:], restored, recipe)
    return len(states)


def _assert_next(steps: list[Step], coming: list[str], layout: Layout, recipe: Recipe) -> None:
    dropped = len(coming) % layout.step if recipe.options.get("drop_last") else 0
    firsts = range(0, len(coming) - dropped, layout.step)
    for first, step in zip(firsts, steps, strict=True):
        assert Counter(itertools.chain(*step)) == Counter(coming[first : first + layout.step])
        sizes = [len(samples) for samples in step]
        assert max(sizes) - min(sizes) <= (layout.batch_size if "buckets" in recipe.options else 1)


def _fits(state: State, layout: Layout, recipe: Recipe) -> bool:
    """Batches of one bucket cannot begin in the middle of another."""
    return "buckets" not in recipe.options or state["samples"] % layout.batch_size == 0


def states_of(recipe: Recipe, layout: Layout) -> list[State]:
    """Of one epoch: before its first step, behind each, and behind its end."""
    feeds = recipe.feeds(layout)
    states = [_state(feeds)]
    for _ in _steps(feeds, layout):
        states.append(_state(feeds))
    return [*states, _state(feeds)]


def rests_of(recipe: Recipe, layout: Layout, states: list[State]) -> list[list[list[Step]]]:
    """From each state on, the rest of its epoch and the next one."""
    found = []
    for state in states:
        feeds = recipe.feeds(layout)
        for feed in feeds:
            feed.load_state_dict(state)
        found.append([list(_steps(feeds, layout)) for _ in range(2)])
    return found


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns there."""
    with ProcessPoolExecutor(1, mp_context=new_processes()) as pool:
        return pool.submit(function, *arguments).result(timeout=200)


def new_processes() -> multiprocessing.context.ForkServerContext:
    """They are forked from a server that has loaded these modules, and done no more."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "tarloom.read.feed.torch"])
    return context


def samples_of(batch: Mapping[str, Any]) -> list[str]:
    return [_short({name: batch[name][row] for name in sorted(batch)}) for row in range(len(batch["__key__"]))]


def _short(sample: Mapping[str, Any]) -> str:
    found = hashlib.sha256()
    for name, value in sample.items():
        found.update(f"{name} ".encode() + (value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()))
    return f"{sample['__key__']} {found.hexdigest()[:16]}"


def _state(feeds: list[Feed]) -> State:
    """The one of all ranks, as it comes out of a file."""
    first, *others = (json.loads(json.dumps(feed.state_dict())) for feed in feeds)
    assert all(other == first for other in others)
    return first


def _steps(feeds: list[Feed], layout: Layout) -> Iterator[Step]:
    """The rest of an epoch."""
    for batches in zip(*(_in_turns(feed, layout.workers) for feed in feeds), strict=True):
        yield [samples_of(batch) for batch in batches]


def _in_turns(feed: Feed, workers: int) -> Iterator[Mapping[str, Any]]:
    """As a DataLoader reads whose workers take steps in turn, counted as feed.loader() does."""
    if not workers:
        return iter(feed)
    turns = [feed.batches(feed.steps(StepStride(first=number, every=workers))) for number in range(workers)]
    rounds = itertools.zip_longest(*turns)
    return feed.counting(feed.steps(), (batch for found in rounds for batch in found if batch is not None))
