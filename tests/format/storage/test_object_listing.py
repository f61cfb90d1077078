"""A listing in parts finds what one in a row finds, whatever is known from before."""

import obstore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import from_url

from tarloom.format.storage import listing as object_listing
from tarloom.format.storage import open_storage
from tarloom.format.storage.objects import _lists_in_order

NAMES = (
    "0.tar",
    "0.txt",
    "00001.tar",
    "A.tar",
    "_x/y.tar",
    "a b.tar",
    "b/c.tar",
    "b/d/e.tar",
    "b0.tar",
    "ä.tar",
    "图.tar",
)
names = st.one_of(st.sampled_from(NAMES), st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=9))


def is_tar(name: str) -> bool:
    return name.endswith(".tar")


@pytest.fixture(autouse=True)
def every_listing_is_long_enough(monkeypatch):
    monkeypatch.setattr(object_listing, "LEAST", 1)
    monkeypatch.setattr(object_listing, "PAGE", 2)


def tars_and_others(survey) -> tuple[list[str], list[str]]:
    entries, others = survey
    return sorted(entry.name for entry in entries), sorted(others)


def whole() -> tuple[list[str], list[str]]:
    return sorted(filter(is_tar, NAMES)), sorted(name for name in NAMES if not is_tar(name))


@pytest.fixture(scope="module")
def bucket(s3) -> str:
    for name in NAMES:
        obstore.put(from_url(s3.folder("in-parts")), name, b"12345")
    return s3.folder("in-parts")


@settings(deadline=None, max_examples=40)
@given(st.lists(names, max_size=40).map(sorted))
def test_parts_are_disjoint_and_together_complete(bucket, known):
    storage = open_storage(bucket)
    assert tars_and_others(storage.survey(is_tar, known=lambda: known)) == whole()


def test_of_what_is_listed_in_one_page_no_names_are_known_from_before(bucket, monkeypatch):
    monkeypatch.setattr(object_listing, "PAGE", len(NAMES) + 1)
    assert tars_and_others(open_storage(bucket).survey(is_tar, known=lambda: pytest.fail("asked for them"))) == whole()


def test_buckets_that_list_in_no_order_are_listed_in_one_part():
    assert _lists_in_order("s3://bucket/folder")
    assert not _lists_in_order("s3://bucket--use1-az4--x-s3/folder")
    assert not _lists_in_order("az://container/folder")
