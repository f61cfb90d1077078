"""The torch feed: shares that are disjoint and complete, tensors, and loaders that go on exactly where they were."""

import os
import shutil
import signal
import threading
import time
from dataclasses import fields
from itertools import islice
from multiprocessing.context import get_spawning_popen
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import tarloom
from tarloom.errors import EngineError, StaleIndex, UsageError
from tarloom.read.feed.feedable import FeedKeywords
from tarloom.read.feed.options import FeedOptions
from tests.read.feed.resume_contract import new_processes
from tests.read.sample_sets import packed_samples

KEYS = [key for key, _ in packed_samples(2)]


def keys_of(batches) -> list[str]:
    return [key for batch in batches for key in batch["__key__"]]


def steps_of(batches) -> list[tuple[str, ...]]:
    return [tuple(batch["__key__"]) for batch in batches]


def taken(loader, steps: int) -> list[tuple[str, ...]]:
    """So many steps, and then it is broken off."""
    return steps_of(islice(loader, steps))


def lengths_and_process(batch) -> tuple[list[int], int]:
    return [len(text) for text in batch["txt"]], os.getpid()


@pytest.fixture
def make(packed):
    """A feed of 11 steps an epoch, anew."""
    dataset = tarloom.open(packed).select("txt", "clip.embedding")
    return lambda **options: dataset.to_torch(7, **{"seed": 1, "window": 30, "block": 4, **options})


@pytest.fixture
def epochs(make):
    """What comes in each of four epochs."""
    feed = make()
    return [steps_of(feed) for _ in range(4)]


def test_batches_have_the_size_asked_for_and_come_in_order(packed):
    names = ("txt", "caption.text", "clip.embedding", "width")
    batches = list(tarloom.open(packed).select(*names).to_torch(10, shuffle=False))
    assert [len(batch["__key__"]) for batch in batches] == [10] * 7 + [6]
    assert keys_of(batches) == KEYS
    assert batches[0]["txt"] == [b"a caption"] * 10
    assert batches[0]["caption.text"] == ["hello"] * 10
    assert torch.equal(batches[0]["clip.embedding"], torch.full((10, 4), 0.5, dtype=torch.float16))
    assert torch.equal(batches[7]["width"], torch.full((6,), 256, dtype=torch.int32))


@pytest.mark.parametrize("world_size", [1, 2, 3, 50, 100])
def test_ranks_share_all_samples_without_overlap(packed, world_size):
    dataset = tarloom.open(packed)
    feeds = [dataset.to_torch(7, rank=rank, world_size=world_size, seed=3) for rank in range(world_size)]
    found = [list(feed) for feed in feeds]
    assert {len(batches) for batches in found} == {len(feeds[0])}
    assert sorted(key for batches in found for key in keys_of(batches)) == KEYS


def test_a_seed_orders_each_epoch_in_its_own_repeatable_way(packed):
    feed = tarloom.open(packed).to_torch(10, seed=1)
    first = keys_of(feed)
    feed.set_epoch(0)
    again = keys_of(feed)
    second = keys_of(feed)
    assert feed.epoch == 2
    assert first == again != second
    assert sorted(first) == sorted(second) == KEYS != first


def test_an_epoch_that_is_broken_off_begins_anew_unless_a_state_is_loaded(make, epochs):
    feed = make()
    assert taken(feed, 4) == epochs[0][:4]
    state = feed.state_dict()
    assert steps_of(feed) == epochs[0]
    feed.load_state_dict(state)
    feed.set_epoch(0)
    assert steps_of(feed) == epochs[0][4:]
    assert steps_of(feed) == epochs[1]
    feed.load_state_dict(state)
    feed.set_epoch(3)
    assert steps_of(feed) == epochs[3]


def test_states_of_other_feeds_are_refused_and_say_what_differs(make, packed):
    state = make().state_dict()
    with pytest.raises(UsageError, match="seed 1 there, 2 here"):
        make(seed=2).load_state_dict(state)
    with pytest.raises(UsageError, match="other data"):
        tarloom.open(packed).where("__key__ > '000000010'").to_torch(7, seed=1, window=30, block=4).load_state_dict(
            state
        )


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found")
def test_a_loaders_state_is_what_was_taken_and_goes_on_with_any_number_of_workers(make, epochs):
    feed, loader = make(), make().loader(num_workers=2, pin_memory=True)
    assert len(loader) == len(epochs[0])
    assert taken(loader, 4) == epochs[0][:4]
    state = loader.state_dict()
    feed.load_state_dict(state)
    assert steps_of(feed) == epochs[0][4:]
    assert steps_of(loader) == epochs[0]
    assert steps_of(loader) == epochs[1]
    assert loader.epoch == 2
    loader.load_state_dict(state)
    assert steps_of(loader) == epochs[0][4:]
    loader.set_epoch(3)
    assert steps_of(loader) == epochs[3]
    alone = make().loader()
    alone.load_state_dict(state)
    assert steps_of(alone) == epochs[0][4:]
    assert (alone.epoch, alone.state_dict()["samples"]) == (1, 0)


class SecondIsLate:
    """A transform that the second process it is sent to waits for, until there is a file."""

    def __init__(self, file: Path) -> None:
        self.file, self.sent = file, 0

    def __call__(self, batch):
        return batch

    def __getstate__(self):
        self.sent += get_spawning_popen() is not None  # else somebody only looks whether it can be sent
        return {"file": self.file, "waits": self.sent == 2}

    def __setstate__(self, state) -> None:
        while state["waits"] and not state["file"].exists():
            time.sleep(0.01)


def test_a_worker_that_starts_late_goes_to_a_loaded_place_though_it_missed_the_iteration_before(
    make, epochs, tmp_path, monkeypatch
):
    feed, other = make(transform=SecondIsLate(tmp_path / "told")), make()
    loader = feed.loader(num_workers=2)
    assert taken(loader, 1) == epochs[0][:1]
    assert taken(other, 4) == epochs[0][:4]
    loader.load_state_dict(other.state_dict())
    tell = feed._tell_place
    monkeypatch.setattr(feed, "_tell_place", lambda **options: (tell(**options), (tmp_path / "told").touch()))
    assert steps_of(loader) == epochs[0][4:]


def test_workers_of_torchs_loader_are_not_told_what_a_loader_of_the_same_feed_tells_its_own(make, epochs):
    feed = make()
    loader = DataLoader(
        feed, batch_size=None, num_workers=2, multiprocessing_context=new_processes(), persistent_workers=True
    )
    assert steps_of(loader) == epochs[0]
    feed.set_epoch(1)
    assert taken(feed.loader(num_workers=1), 4) == epochs[1][:4]
    feed.set_epoch(2)
    assert [steps_of(loader) for _ in range(2)] == [epochs[2]] * 2


def kill_itself(batch):
    os.kill(os.getpid(), signal.SIGKILL)


def test_errors_of_workers_are_those_that_they_raised_and_a_worker_that_dies_is_named(make, packed, tmp_path):
    shutil.copytree(packed, tmp_path / "damaged")
    dataset = tarloom.open(tmp_path / "damaged").select("txt")
    for tar in (tmp_path / "damaged").glob("*.tar"):
        tar.write_bytes(b"")
    messages = []
    for workers in (0, 1):
        with pytest.raises(StaleIndex) as raised:
            list(dataset.to_torch(7).loader(num_workers=workers))
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    with pytest.raises(EngineError, match=r"^DataLoader worker \(pid.*; where memory ran out, give fewer"):
        list(make(transform=kill_itself).loader(num_workers=1))


def test_a_transform_that_is_no_function_is_refused_before_anything_is_read(make):
    with pytest.raises(UsageError, match="transform is a function from a batch to what is yielded, not 'rgb'"):
        make(transform="rgb")


def test_a_transform_that_cannot_be_sent_to_workers_is_refused_with_what_can(make):
    with pytest.raises(UsageError, match=r"cannot be sent .*<lambda>.*; give a transform that is a function of a mod"):
        iter(make(transform=lambda batch: batch).loader(num_workers=1))


def with_a_lock(batch):
    return batch | {"lock": threading.Lock()}


def test_what_workers_cannot_send_is_refused_rather_than_waited_for(make):
    with pytest.raises(UsageError, match=r"^a worker cannot send what transform returns: .*lock.*; let it return tens"):
        list(make(transform=with_a_lock).loader(num_workers=1))
    assert len(list(make(transform=with_a_lock).loader())) == 11


def stop_in_the_middle(batch):
    raise StopIteration


def test_a_transform_that_stops_is_an_error_that_says_so(make):
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(make(transform=stop_in_the_middle))


def test_workers_of_torchs_loader_live_on_hear_the_epoch_and_transform_in_their_process(make, epochs):
    feed = make(transform=lengths_and_process)
    loader = DataLoader(
        feed,
        batch_size=None,
        num_workers=2,
        multiprocessing_context=new_processes(),
        persistent_workers=True,
        collate_fn=tuple,
    )
    processes = set()
    for epoch in (0, 3):
        feed.set_epoch(epoch)
        found = list(loader)
        assert [len(lengths) for lengths, _ in found] == [len(step) for step in epochs[epoch]]
        assert sum(sum(lengths) for lengths, _ in found) == len(KEYS) * len("a caption")
        processes |= {process for _, process in found}
    assert len(processes - {os.getpid()}) == 2


def test_workers_of_torchs_loader_live_on_and_go_back_to_a_loaded_place_once(make, epochs):
    feed, other = make(), make()
    loader = DataLoader(
        feed, batch_size=None, num_workers=2, multiprocessing_context=new_processes(), persistent_workers=True
    )
    assert steps_of(loader) == epochs[0]
    assert taken(other, 4) == epochs[0][:4]
    feed.load_state_dict(other.state_dict())
    for begin in (4, 0):
        feed.set_epoch(0)
        assert steps_of(loader) == epochs[0][begin:]
    feed.set_epoch(1)
    assert steps_of(loader) == epochs[1]


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("workers", [0, 2])
def test_torchdatas_loader_goes_on_from_the_states_of_its_workers(make, epochs, workers):
    options = {"batch_size": None, "num_workers": workers, "persistent_workers": workers > 0}
    if workers:
        options["multiprocessing_context"] = new_processes()
    feed = make()
    loader, states = StatefulDataLoader(feed, **options), []
    feed.set_epoch(1)
    for _ in loader:
        states.append(loader.state_dict())
    for done in (3, len(epochs[1])):
        again = make()
        loader = StatefulDataLoader(again, **options)
        loader.load_state_dict(states[done - 1])
        assert steps_of(loader) == epochs[1][done:]
        again.set_epoch(2)
        assert taken(loader, 3) == epochs[2][:3]


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("persistent", [False, True])
def test_torchdatas_loader_goes_on_with_the_next_epoch_from_a_state_of_an_epochs_end(make, epochs, persistent):
    options = {"batch_size": None, "num_workers": 1, "persistent_workers": persistent}
    options["multiprocessing_context"] = new_processes()
    feed = make()
    loader = StatefulDataLoader(feed, **options)
    feed.set_epoch(0)
    assert steps_of(loader) == epochs[0]
    state, again = loader.state_dict(), make()
    loader = StatefulDataLoader(again, **options)
    loader.load_state_dict(state)
    for epoch in (1, 2):
        again.set_epoch(epoch)
        assert steps_of(loader) == epochs[epoch]


def test_a_workers_state_is_refused_elsewhere(make):
    with pytest.raises(
        UsageError, match=r"worker 1 of 2, whose steps have 7 samples, and this is no worker.*loader\(\)"
    ):
        make().load_state_dict(make().state_dict() | {"worker": [1, 2, 7]})


@pytest.mark.parametrize("options", [{"rank": 0}, {"world_size": 2}, {"rank": 2, "world_size": 2}])
def test_impossible_places_are_refused(packed, options):
    with pytest.raises(UsageError, match="rank"):
        tarloom.open(packed).to_torch(10, **options)
    with pytest.raises(UsageError, match="batch_size"):
        tarloom.open(packed).to_torch(0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"columns": "txt"}, r"columns are names, also where there is one: columns=\('txt',\)"),
        ({"captions": {"txt": 1}}, r"captions cannot be {'txt': 1}; give it as captions=tarloom\.Captions\("),
        ({"seed": None}, "seed must be a whole number, not None"),
        ({"shuffle": "no"}, "shuffle cannot be 'no'; give it as shuffle=False"),
        ({"drop_last": "yes"}, "drop_last cannot be 'yes'; give it as drop_last=True"),
        ({"memory_bytes": "1GB"}, "memory_bytes cannot be '1GB'; give it as memory_bytes=4 << 30"),
        ({"cache": 3}, 'cache cannot be 3; give it as cache="/scratch/shards"'),
        ({"max_skipped": "3"}, "max_skipped cannot be '3'; give it as max_skipped=100"),
        ({"window": 2**70}, "window must be at most 9223372036854775807"),
        ({"block": 2**70}, "block must be at most 9223372036854775807"),
        ({"max_skipped": -1}, "max_skipped must be at least 0, not -1"),
        ({"num_workers": 4}, r"a feed has no num_workers; its options are seed, .*: feed\.loader\(num_workers=4"),
    ],
)
def test_options_of_another_type_are_refused_with_what_they_are(packed, options, says):
    with pytest.raises(UsageError, match=says):
        tarloom.open(packed).to_numpy(4, **options)


def test_nothing_to_decode_is_what_the_dataset_decodes(packed):
    feed = tarloom.open(packed).select("json").decoding(json="json").to_numpy(4, decode={})
    assert all(isinstance(value, dict) for value in next(iter(feed))["json"])


def test_editors_know_all_options():
    assert list(FeedKeywords.__annotations__) == [field.name for field in fields(FeedOptions)]
