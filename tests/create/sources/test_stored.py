"""Lists whose URLs are files: read where their place was allowed, and nowhere else."""

import os
import shutil
import sys

import obstore
import pytest
from obstore.store import from_url

from tarloom.errors import EngineError, UsageError
from tarloom.format.storage import client
from tests.create.helpers import PICTURES, create, rows
from tests.create.sources.small_server import Reply, SmallServer
from tests.s3_server import environment_set

PICTURE = PICTURES / "0001.jpg"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


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


def test_urls_of_files_are_read_as_programs_write_them(place):
    allowed = place / "allowed"
    for name in ("my pic #1.jpg", "100%25.jpg", "caf\u00e9.jpg"):
        shutil.copy(PICTURE, allowed / name)
    told = {
        (allowed / "my pic #1.jpg").as_uri(): None,
        (allowed / "caf\u00e9.jpg").as_uri(): None,
        f"file://{allowed}/my pic #1.jpg": None,
        f"{allowed}/100%25.jpg": None,
        f"FILE://{allowed}/deep/a.jpg": None,
        f"file://localhost{allowed}/deep/a.jpg": None,
        "file://deep/a.jpg": None,
        f"file://{allowed}/%2e%2e/secret/a.jpg": "scheme_refused",
        f"file://{allowed}%2f..%2fsecret/a.jpg": "scheme_refused",
        f"file://{allowed}/a%00.jpg": "bad_url",
    }
    assert fates(place, told, allow_storage=(str(allowed),)) == list(told.values())


def test_the_same_list_may_lead_to_the_web(place, photo_server):
    urls = [f"{photo_server.url}/pictures/0001.jpg", "deep/a.jpg", f"{photo_server.url}/trouble/missing.jpg"]
    assert fates(place, urls, allow_storage=(str(place / "allowed"),)) == [None, None, "http_404"]


def test_a_file_that_is_too_large_is_not_read(place):
    assert fates(place, ["deep/a.jpg"], allow_storage=(str(place / "allowed"),), max_bytes=100) == ["too_large"]


def test_a_pipe_is_not_waited_for(place):
    os.mkfifo(place / "allowed/pipe.jpg")
    assert fates(place, ["pipe.jpg", "deep/a.jpg"], allow_storage=(str(place / "allowed"),)) == ["unreadable", None]


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc here")
def test_a_file_whose_size_nobody_knows_is_read_up_to_the_bound(place):
    urls = ["/proc/self/maps", "/proc/self/comm"]
    told = fates(place, urls, allow_storage=("/proc",), max_bytes=100)
    assert told == ["too_large", "not_an_image"]


def test_a_place_that_is_lost_for_a_while_costs_no_row(place):
    allowed, options = place / "allowed", {"allow_storage": (str(place / "allowed"),), "max_shard_retry": 0}
    urls = ["deep/a.jpg", "deep/b.jpg"] * 4
    (place / "list.txt").write_text("\n".join(urls))
    allowed.rename(place / "elsewhere")
    for is_empty in (False, True):  # as where a disk was mounted
        if is_empty:
            allowed.mkdir()
        with pytest.raises(EngineError, match=r"3 shards in a row failed, .*allowed: is not there, or empty"):
            create(place / "list.txt", place / "out", number_sample_per_shard=2, **options)
    allowed.rmdir()
    (place / "elsewhere").rename(allowed)
    summary = create(place / "list.txt", place / "out", number_sample_per_shard=2, **options)
    assert (summary.successes, summary.failed_by_error, summary.skipped) == (4, {"unreadable": 4}, 0)


def test_of_several_places_one_that_was_never_there_costs_its_rows_and_one_that_is_lost_none(place, caplog):
    allowed, absent = place / "allowed", place / "absent"
    options = {"allow_storage": (str(allowed), str(absent)), "max_shard_retry": 0, "number_sample_per_shard": 1}
    (place / "list.txt").write_text("\n".join(["deep/a.jpg", f"{absent}/a.jpg"] * 4))
    assert create(place / "list.txt", place / "out", shards="0:2", **options).failed_by_error == {"unreadable": 1}
    assert f"{absent} was not there" in caplog.text
    allowed.rename(place / "elsewhere")
    assert [*create(place / "list.txt", place / "out", shards="2:4", **options).failed_shards] == ["00002"]
    (place / "elsewhere").rename(allowed)
    summary = create(place / "list.txt", place / "out", **options)
    assert (summary.successes, summary.failed_by_error) == (4, {"unreadable": 4})


def test_a_store_that_does_not_answer_costs_no_row(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "RETRIES", 0)
    (tmp_path / "list.txt").write_text("s3://nobody-listens/a.jpg")
    with environment_set({"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ALLOW_HTTP": "true"} | CREDENTIALS):
        summary = create(tmp_path / "list.txt", tmp_path / "out", allow_storage=("s3://nobody-listens",))
    assert "no answer from 127.0.0.1:1" in summary.failed_shards["00000"]
    assert not list((tmp_path / "out").glob("00000*"))


REFUSALS = {
    (403, "AccessDenied"): "unreadable",  # of what is not there, too, where listing is not allowed
    (403, "InvalidObjectState"): "unreadable",
    (400, "KeyTooLongError"): "unreadable",
    (404, "NoSuchBucket"): "there is no such bucket",
    (403, "InvalidAccessKeyId"): "check the credentials",
    (400, "ExpiredToken"): "ExpiredToken",
    (503, "SlowDown"): "the server wants fewer requests",
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_store_that_refuses_everybody_costs_no_row_and_one_object_costs_one(tmp_path, monkeypatch, refusal):
    monkeypatch.setattr(client, "RETRIES", 0)
    status, code = refusal
    (tmp_path / "list.txt").write_text("s3://refusing/a.jpg")
    with SmallServer(lambda path: Reply(f"<Error><Code>{code}</Code></Error>".encode(), status=status)) as server:
        client.object_store.cache_clear()
        with environment_set({"AWS_ENDPOINT_URL": server.url(""), "AWS_ALLOW_HTTP": "true"} | CREDENTIALS):
            options = {"allow_storage": ("s3://refusing",), "max_shard_retry": 0}
            summary = create(tmp_path / "list.txt", tmp_path / "out", **options)
    told = [*summary.failed_by_error, *summary.failed_shards.values()]
    assert len(told) == 1
    assert REFUSALS[refusal] in told[0]


def test_a_name_that_no_object_can_have_costs_its_row_alone(s3_folder, tmp_path):
    obstore.put(from_url(s3_folder), "a.jpg", PICTURE.read_bytes())
    urls = [f"{s3_folder}/deep//a.jpg", f"{s3_folder}/a.jpg", f"{s3_folder}/{'x' * 2000}"]
    assert fates(tmp_path, urls, allow_storage=(s3_folder,)) == ["unreadable", None, "unreadable"]


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
