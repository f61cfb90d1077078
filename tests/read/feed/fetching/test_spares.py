"""A bad sample's place is taken by the next good one of its dataset, whoever reads it; files that fail are named."""

from collections import Counter

import pytest

import tarloom
from tarloom.errors import ShardError, StaleIndex, TooManyErrors
from tarloom.read.feed.batches.pictures import RandomCrop
from tarloom.read.feed.fetching import spares
from tests.format.raw import write_tar
from tests.read.feed.resume_contract import BAD, LACKING, SHARDS, write_resumable

ROWS = sum(SHARDS)
GONE = BAD | {LACKING}
CROP = RandomCrop(4)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> tarloom.Dataset:
    return tarloom.open(write_resumable(tmp_path_factory.mktemp("bad")))


def behind(row: int) -> int:
    """The next sample that is good."""
    row = (row + 1) % ROWS
    return behind(row) if row in GONE else row


def keys_of(batches) -> list[str]:
    return [key for batch in batches for key in batch["__key__"]]


IN_PLACE = [f"{behind(row) if row in GONE else row:09d}" for row in range(ROWS)]


def test_the_next_good_sample_takes_the_place_with_all_that_belongs_to_it(dataset):
    wanted = dataset.select("json", "png", "width", "caption.text")
    batches = list(wanted.to_numpy(7, shuffle=False, decode={"png": CROP, "json": "json"}))
    assert keys_of(batches) == IN_PLACE
    rows = [int(key) for key in IN_PLACE]
    assert [value["row"] for batch in batches for value in batch["json"]] == rows
    assert [width for batch in batches for width in batch["width"]] == [8 + row % 5 for row in rows]
    assert [text for batch in batches for text in batch["caption.text"]] == [f"picture {row}" for row in rows]


@pytest.mark.parametrize("world_size", [1, 3])
def test_which_one_that_is_depends_on_the_sample_alone(dataset, world_size):
    found = []
    for rank in range(world_size):
        found += keys_of(dataset.to_numpy(5, seed=2, decode=CROP, rank=rank, world_size=world_size))
    assert Counter(found) == Counter(IN_PLACE)


def test_a_condition_holds_for_what_takes_a_place(dataset):
    found = keys_of(dataset.where("class = 'b'").to_numpy(5, seed=2, decode=CROP))
    good = {sample["__key__"] for sample in dataset.where("class = 'b'")} - {f"{row:09d}" for row in GONE}
    assert set(found) == good


def test_what_was_replaced_is_counted_with_its_place_when_it_is_taken(dataset):
    feed = dataset.to_numpy(10, shuffle=False, decode=CROP)
    batches = iter(feed)
    next(batches)
    assert [(entry.key, entry.name) for entry in feed.ledger.entries] == [
        (f"{row:09d}", "not_an_image") for row in (5, 6)
    ]
    assert feed.ledger.entries[0].where == f"{dataset.url}/00000.tar"
    list(batches)
    assert sum(feed.ledger.counts.values()) == len(GONE)
    assert feed.ledger.counts["missing_member"] == 1


def test_a_limit_holds_for_an_epoch(dataset):
    feed = dataset.to_numpy(10, seed=1, decode=CROP, max_skipped=len(GONE))
    for _ in range(2):
        assert Counter(keys_of(feed)) == Counter(IN_PLACE)
    strict = dataset.to_numpy(10, seed=1, decode=CROP, max_skipped=len(GONE) - 1)
    with pytest.raises(TooManyErrors, match=r"max_skipped is 6; the last: .*\.tar: 0000000\d\d: "):
        list(strict)


def test_many_bad_ones_behind_each_other_end_the_reading(dataset, monkeypatch):
    monkeypatch.setattr(spares, "TRIES", 1)
    with pytest.raises(
        TooManyErrors, match=r"00000\.tar: 000000005: not_an_image: png: .*; nor can any of the 1 samples"
    ):
        list(dataset.to_numpy(10, seed=1, decode=CROP))


@pytest.mark.parametrize("errors", ["raise", "skip"])
def test_a_file_that_fails_is_named_and_never_replaced(tmp_path, errors):
    write_resumable(tmp_path)
    feed = tarloom.open(tmp_path).on_error(errors).to_numpy(10, shuffle=False)
    batches = iter(feed)
    (tmp_path / "00004.tar").write_bytes((tmp_path / "00004.tar").read_bytes()[:2000])
    with pytest.raises(StaleIndex, match=r"00004\.tar: is 2000 bytes long now"):
        list(batches)
    assert sum(feed.ledger.counts.values()) == 0


def test_shards_that_cannot_be_opened_are_left_out_where_the_dataset_skips_errors(tmp_path):
    write_resumable(tmp_path)
    (tmp_path / "broken.tar").write_bytes(b"no tar at all" * 1000)
    write_tar(tmp_path / "empty.tar", [])
    with pytest.raises(ShardError, match=r"broken\.tar"):
        tarloom.open(tmp_path).to_numpy(10)
    assert len(keys_of(tarloom.open(tmp_path).on_error("skip").to_numpy(10))) == ROWS
