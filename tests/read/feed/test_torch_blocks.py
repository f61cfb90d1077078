"""Pictures from a loader's workers: tensors over memory that both share, right whatever is kept, cut out or changed."""

import gc
import os
import signal
from itertools import islice
from pathlib import Path

import pytest
import torch

import tarloom
from tarloom.errors import EngineError
from tarloom.read.feed.batches.pictures import CenterCrop
from tests.format.raw import write_tar
from tests.read.feed.resume_contract import write_resumable
from tests.read.sample_sets import png_of

SIDE = 6


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return tarloom.open(write_resumable(tmp_path_factory.mktemp("pictures"))).select("png", "class")


@pytest.fixture
def make(pictures):
    """A feed of 41 steps an epoch, anew; the last is smaller."""
    return lambda **options: pictures.to_torch(2, **{"seed": 1, "decode": CenterCrop(SIDE), **options})


def same(found, wanted) -> bool:
    """Whether these are the same batches: keys, pictures, classes."""
    return len(found) == len(wanted) and all(
        one["__key__"] == other["__key__"] and one["class"] == other["class"] and torch.equal(one["png"], other["png"])
        for one, other in zip(found, wanted, strict=True)
    )


def place_of(batch) -> int | None:
    """Where its pictures are in memory that is shared with a worker; None where they are elsewhere."""
    place = batch["png"].untyped_storage().data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, _, last = line.split()[0].partition("-")
        if int(first, 16) <= place < int(last, 16):
            return place if "memfd:tarloom-batches" in line else None
    return None


def test_batches_that_are_all_kept_are_those_of_the_feed(make):
    feed, loader = make(), make().loader(num_workers=2)
    for _ in range(2):
        wanted, found = list(feed), list(loader)
        assert same(found, wanted)
        assert {place_of(batch) is None for batch in found} == {False, True}  # more than there are blocks
        assert [tuple(batch["png"].shape) for batch in found[-2:]] == [(2, SIDE, SIDE, 3), (1, SIDE, SIDE, 3)]
        del found


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found")
@pytest.mark.parametrize("options", [{}, {"pin_memory": True}, {"prefetch_factor": 5}])
def test_memory_of_batches_that_are_dropped_is_used_again_and_again(make, options):
    loader, wanted, places = make().loader(num_workers=2, **options), list(make()), []
    for _ in range(12):  # broken off
        found = list(islice(loader, 3))
        assert same(found, wanted[:3])
        places += [place_of(batch) for batch in found]
        del found
    for batch, other in zip(loader, wanted, strict=True):
        assert same([batch], [other])
        places.append(place_of(batch))
    assert None not in places
    assert len(set(places)) < len(places) / 2


def test_views_that_are_kept_stay_as_they_are_while_other_batches_come(make):
    def views(batch):
        return batch["png"][:, 1:, ::2], batch["png"].numpy()[:, 2], batch["png"][0].view(torch.int8)

    wanted = [[view.tolist() for view in views(batch)] for batch in make()]
    for kind in range(3):
        kept = {}
        for number, batch in enumerate(make().loader(num_workers=1)):
            if number % 10 == 0:
                kept[number] = views(batch)[kind]
            del batch
        assert len(kept) == 5
        assert all(view.tolist() == wanted[number][kind] for number, view in kept.items())


def test_tensors_may_be_written_to(make):
    for found, wanted in zip(make().loader(num_workers=1), make(), strict=True):
        found["png"] += 1
        assert torch.equal(found["png"], wanted["png"] + 1)


def in_many_ways(batch):
    pixels = batch["png"]
    return {
        "whole": pixels,
        "views": (pixels[1:], pixels.permute(0, 3, 1, 2), pixels[:, ::2, 1:4], pixels[0, 0, 0, 0], pixels[:0]),
        "many": [pixels[0]] * 3 + [pixels[:, row] for row in range(SIDE)] * 2,
        "other": [pixels.float(), pixels.view(torch.int8), pixels.clone(), torch.nn.Parameter(pixels.float())],
        "array": pixels.numpy()[:, 1].copy(),
    }


def told(value):
    """Of tensors and arrays wherever they are, what they hold."""
    if isinstance(value, dict):
        return {name: told(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [told(one) for one in value]
    return str(value.dtype), tuple(value.shape), value.tolist()


def test_what_a_transform_makes_of_pictures_arrives_as_it_is(make):
    wanted = [told(made) for made in make(transform=in_many_ways)]
    found = list(make(transform=in_many_ways).loader(num_workers=2))
    assert [told(made) for made in found] == wanted
    assert found[0]["views"][1].stride() == (SIDE * SIDE * 3, 1, SIDE * 3, 3)
    assert found[0]["views"][0].untyped_storage().nbytes() == 2 * SIDE * SIDE * 3


class WithTheOneBefore:
    """A transform that sends each batch twice."""

    def __init__(self) -> None:
        self.before = torch.zeros(0, dtype=torch.uint8)

    def __call__(self, batch):
        before, self.before = self.before, batch["png"]
        return before, batch["png"]


def test_pictures_that_a_transform_sends_again_arrive_again(make):
    wanted = [batch["png"].tolist() for batch in make()]
    before = []
    for first, second in make(transform=WithTheOneBefore()).loader(num_workers=1):
        assert first.tolist() == before
        before = second.tolist()
        del first, second
        assert before == wanted.pop(0)


def test_several_members_have_memory_each(tmp_path):
    write_tar(tmp_path / "a.tar", [(f"{row}", {"jpg": png_of(row), "png": png_of(row + 50)}) for row in range(40)])
    decode = {"png": CenterCrop(SIDE), "jpg": CenterCrop((2, 3))}
    feed = tarloom.open(tmp_path).to_torch(2, decode=decode)
    wanted = list(feed)
    feed.set_epoch(0)
    for batch, other in zip(feed.loader(num_workers=1), wanted, strict=True):
        assert place_of(batch) is not None
        assert told(batch["jpg"]) == told(other["jpg"]) != told(batch["png"]) == told(other["png"])


def test_where_the_system_has_no_such_memory_torch_copies(make, monkeypatch):
    def refused(name: str) -> int:
        raise OSError(f"no {name}")

    wanted = list(make())
    monkeypatch.setattr(os, "memfd_create", refused)
    assert same(list(make().loader(num_workers=1)), wanted)


class DiesLater:
    """A transform that ends its process at the fifth batch."""

    left = 5

    def __call__(self, batch):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch


def test_batches_outlive_the_worker_that_made_them_and_their_loader(make):
    wanted, found = list(make()), []
    with pytest.raises(EngineError, match="DataLoader worker"):
        found.extend(make(transform=DiesLater()).loader(num_workers=1))
    gc.collect()
    assert place_of(found[0]) is not None
    assert same(found, wanted[: len(found)])
