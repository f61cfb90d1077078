"""Hashes: the bytes' is hashlib's, the perceptual ones are those of their published definitions."""

import hashlib
import io
import re

import pytest
from PIL import Image

import tarloom
from tarloom.process.stages.hash import HashStage
from tarloom.read.columns.query import Query
from tests.process.shards import ROOT, encoded, write_shard
from tests.process.stage_contract import ask, run

BY_IMAGEHASH = {
    "0014": ("b3669899ce31cd38", "4d8e964c685a9a8c"),
    "0034": ("963669c996b66a68", "048b14ccccc3cc20"),
    "0149": ("e6c9646699329b9a", "242626102d4e4e25"),
}
"""phash and dhash of the shipped pictures as ImageHash 4.3.2 prints them."""


def hashes(*members: bytes) -> list[dict]:
    return ask(HashStage(), *({"jpg": member} for member in members))


def shipped(number: str) -> bytes:
    return (ROOT / f"source_data/pictures/{number}.jpg").read_bytes()


def bits_apart(one: int, other: int) -> int:
    return (one ^ other).bit_count()


@pytest.mark.parametrize("number", BY_IMAGEHASH)
def test_hashes_are_those_of_hashlib_and_imagehash(number):
    (row,) = hashes(shipped(number))
    assert row["sha256"] == hashlib.sha256(shipped(number)).hexdigest()
    assert (f"{row['phash']:016x}", f"{row['dhash']:016x}") == BY_IMAGEHASH[number]


def test_bytes_that_are_no_picture_have_a_hash_of_bytes_alone():
    page = b"<html>not found</html>"
    (row,) = hashes(page)
    assert (row["sha256"], row["phash"], row["error"]) == (hashlib.sha256(page).hexdigest(), None, "not_an_image")


def test_a_resized_copy_stays_close_and_other_pictures_are_far():
    picture = Image.open(io.BytesIO(shipped("0014")))
    rows = hashes(shipped("0014"), encoded(picture.resize((300, 220)), "PNG"), shipped("0034"), shipped("0149"))
    for name in ("phash", "dhash"):
        first, copy, *others = (row[name] for row in rows)
        assert bits_apart(first, copy) <= 4
        assert all(bits_apart(first, other) > 16 for other in others)


def test_a_blank_picture_has_the_same_hash_at_any_size_and_level():
    rows = hashes(*(encoded(Image.new("RGB", size, (level,) * 3), "PNG") for size, level in blanks()))
    assert {(row["phash"], row["dhash"]) for row in rows} == {(1 << 63, 0)}


def blanks():
    return [((side, side + 9), level) for side in (1, 33, 200) for level in (1, 128, 255)]


def test_copies_are_found_with_the_query_that_the_documentation_shows(tmp_path):
    picture = Image.open(io.BytesIO(shipped("0014")))
    members = [shipped("0014"), shipped("0034"), encoded(picture.resize((300, 220))), shipped("0149")]
    write_shard(tmp_path / "0.tar", [(f"{n}", {"jpg": member}) for n, member in enumerate(members)])
    run(tmp_path, {"hash": HashStage()})
    (sql,) = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/stages.md").read_text(), re.DOTALL)
    found = [batch.to_pydict() for batch in Query(tarloom.open(tmp_path), sql).batches()]
    assert found == [{"one": ["0"], "other": ["2"]}]
