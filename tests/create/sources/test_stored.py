"""Lists whose URLs are files: read where their place was allowed, and nowhere else."""

import shutil

import obstore
import pytest
from obstore.store import from_url

from tarloom.errors import UsageError
from tests.create.helpers import PICTURES, create, rows

PICTURE = PICTURES / "0001.jpg"


@pytest.fixture
def place(tmp_path):
    """A folder with a picture, and one beside it that is not to be read."""
    for folder in ("allowed/deep", "secret"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(PICTURE, tmp_path / folder / "a.jpg")
    (tmp_path / "allowed/link.jpg").symlink_to(tmp_path / "secret/a.jpg")
    (tmp_path / "allowed/empty.jpg").touch()
    return tmp_path


def fates(tmp_path, urls, **options):
    """Each URL's error, None where its picture was read."""
    (tmp_path / "list.txt").write_text("\n".join(urls))
    create(tmp_path / "list.txt", tmp_path / "out", number_sample_per_shard=100, **options)
    return [row["error"] for row in rows(tmp_path / "out")]


def test_files_are_read_below_their_place_and_refused_elsewhere(place):
    allowed = place / "allowed"
    told = {
        f"{allowed}/deep/a.jpg": None,
        f"file://{allowed}/deep/a.jpg": None,
        "deep/a.jpg": None,
        f"{allowed}/deep/../deep/a.jpg": None,
        f"{allowed}/deep/b.jpg": "unreadable",
        f"{allowed}/deep": "unreadable",
        f"{allowed}/empty.jpg": "empty_body",
        f"{allowed}/link.jpg": "scheme_refused",
        f"{allowed}/../secret/a.jpg": "scheme_refused",
        f"{place}/secret/a.jpg": "scheme_refused",
        "../secret/a.jpg": "scheme_refused",
        "s3://bucket/a.jpg": "scheme_refused",
        "ftp://127.0.0.1/a.jpg": "scheme_refused",
    }
    assert fates(place, told, allow_storage=(str(allowed),)) == list(told.values())


def test_the_same_list_may_lead_to_the_web(place, photo_server):
    urls = [f"{photo_server.url}/pictures/0001.jpg", "deep/a.jpg", f"{photo_server.url}/trouble/missing.jpg"]
    assert fates(place, urls, allow_storage=(str(place / "allowed"),)) == [None, None, "http_404"]


def test_a_file_that_is_too_large_is_not_read(place):
    assert fates(place, ["deep/a.jpg"], allow_storage=(str(place / "allowed"),), max_bytes=100) == ["too_large"]


def test_without_a_place_no_file_is_one(place):
    assert fates(place, [f"{place}/secret/a.jpg", f"file://{place}/secret/a.jpg"]) == ["bad_url", "scheme_refused"]


def test_objects_are_read_below_their_prefix(s3_folder, tmp_path):
    store = from_url(s3_folder)
    for name in ("pictures/a.jpg", "others/a.jpg"):
        obstore.put(store, name, PICTURE.read_bytes())
    urls = [f"{s3_folder}/{name}.jpg" for name in ("pictures/a", "pictures/b", "others/a", "pictures/../others/a")]
    expected = [None, "unreadable", "scheme_refused", "scheme_refused"]
    assert fates(tmp_path, urls, allow_storage=(f"{s3_folder}/pictures",)) == expected


def test_a_place_that_is_none_is_refused_before_anything_is_read(place):
    with pytest.raises(UsageError, match=r"^allow_storage: .*ftp"):
        fates(place, ["deep/a.jpg"], allow_storage=("ftp://host/pictures",))
