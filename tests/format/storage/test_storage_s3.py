"""Storage in a real object store (Ceph's radosgw) keeps the storages' promises, over the wire and when killed."""

import hashlib
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import obstore
import pytest
from obstore.store import from_url

from tarloom.errors import StorageError
from tarloom.format.storage import open_storage
from tests.format.storage.storage_contract import StorageContract, assert_clear
from tests.s3_server import environment_set
from tests.stalling_proxy import StallingProxy

WRITER = """
import sys
from tarloom.format.storage import open_storage
with open_storage(sys.argv[1]).create("shard.tar") as file:
    file.write(bytes(int(sys.argv[2])))
print("committed", flush=True)
"""


def test_no_room_for_what_waits_to_be_sent_is_one_clear_line():
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    command = [sys.executable, "-c", limited + WRITER, "memory:///bucket", "100000"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert "StorageError: memory:///bucket/shard.tar: File too large in " in ended.stderr.splitlines()[-1]
    assert "set TMPDIR" in ended.stderr.splitlines()[-1]


class TestS3Storage(StorageContract):
    @pytest.fixture
    def storage(self, s3_folder):
        return open_storage(s3_folder)

    @pytest.fixture
    def put_raw(self, s3_folder):
        return lambda name, data: obstore.put(from_url(s3_folder), name, data)


@pytest.fixture
def storage(s3_folder):
    return open_storage(s3_folder)


def test_an_object_of_many_parts_comes_back_whole_and_in_ranges(storage):
    body = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(700_000))
    with storage.create("big.tar") as file:
        for start in range(0, len(body), 1 << 20):
            file.write(body[start : start + (1 << 20)])
    assert storage.head("big.tar").size == len(body) == 22_400_000
    assert storage.head("big.tar").etag
    assert storage.read("big.tar") == body
    offsets = [22_000_000, 0, 5 * 2**20 - 10, 11_000_000]
    assert [bytes(v) for v in storage.read_ranges("big.tar", offsets, [400_000, 10, 20, 1])] == [
        body[22_000_000:],
        body[:10],
        body[5 * 2**20 - 10 : 5 * 2**20 + 10],
        body[11_000_000:11_000_001],
    ]


def test_thousands_of_objects_are_all_listed(storage, s3_folder):
    names = {f"{number % 7}/{number:05d}.tar" for number in range(2000)}
    raw = from_url(s3_folder)
    with_threads(lambda name: obstore.put(raw, name, b"1"), names)
    assert {entry.name for entry in storage.list()} == names
    assert {entry.name for entry in storage.list("3")} == {name for name in names if name.startswith("3/")}


@pytest.mark.parametrize("name", ["run#2", "a?b/c", "a%20b", "größe + d", "[1]{a,b}*x:y'\"$"])
def test_the_path_of_a_folder_is_taken_letter_by_letter(s3_folder, name):
    open_storage(f"{s3_folder}/{name}").write("0.tar", b"1")
    assert [entry.name for entry in open_storage(s3_folder).list()] == [f"{name}/0.tar"]
    assert open_storage(f"{s3_folder}/{name}").read("0.tar") == open_storage(s3_folder).read(f"{name}/0.tar") == b"1"


def test_an_entrys_etag_changes_with_its_bytes_only(storage):
    storage.write("a", b"one")
    first = storage.head("a").etag
    storage.write("a", b"one")
    assert storage.head("a").etag == first
    storage.write("a", b"two")
    assert storage.head("a").etag != first


@pytest.mark.parametrize("size", [100_000, 20_000_000], ids=["one request", "many parts"])
@pytest.mark.parametrize("old", [None, b"the old shard"], ids=["new", "replaced"])
def test_an_upload_whose_writer_is_killed_stays_invisible(s3, s3_folder, storage, size, old):
    if old is not None:
        storage.write("shard.tar", old)
    server = urlsplit(s3.environment["AWS_ENDPOINT_URL"])
    with StallingProxy(server.hostname, server.port, limit=size * 2 // 3) as proxy:
        with environment_set({"AWS_ENDPOINT_URL": proxy.url}):
            writer = subprocess.Popen([sys.executable, "-c", WRITER, s3_folder, str(size)], stdout=subprocess.PIPE)
        with writer:
            assert proxy.stalled.wait(120), "the upload never got to its middle"
            writer.send_signal(signal.SIGKILL)
            assert writer.stdout.read() == b""
    assert [entry.name for entry in storage.list()] == (["shard.tar"] if old else [])
    assert old is None or storage.read("shard.tar") == old


def test_of_writers_at_once_one_wins_whole(storage):
    bodies = [bytes([number]) * 300_000 for number in range(8)]
    with_threads(lambda body: storage.write("race", body), bodies)
    assert storage.read("race") in bodies


WAYS = {
    "list": lambda storage: list(storage.list()),
    "head": lambda storage: storage.head("a"),
    "read": lambda storage: storage.read("a"),
    "ranges": lambda storage: storage.read_ranges("a", [0], [1]),
    "write": lambda storage: storage.write("a", b"1"),
    "delete": lambda storage: storage.delete("a"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", [{"AWS_SECRET_ACCESS_KEY": "wrong"}, {"AWS_ACCESS_KEY_ID": "nobody"}], ids=str)
def test_wrong_credentials_are_one_clear_line_at_once(s3_folder, way, wrong):
    started = time.monotonic()
    with environment_set(wrong), pytest.raises(StorageError, match="check the credentials") as raised:
        WAYS[way](open_storage(s3_folder))
    assert_clear(raised.value, s3_folder)
    assert time.monotonic() - started < 5  # no retries: they would take longer


@pytest.mark.parametrize("way", ["list", "read", "ranges", "write"])
def test_an_absent_bucket_is_named(s3, way):
    storage = open_storage("s3://tarloom-has-no-such-bucket/folder")
    with pytest.raises(StorageError, match="no such bucket") as raised:
        WAYS[way](storage)
    assert_clear(raised.value, storage.url)


@pytest.mark.parametrize("way", ["list", "read", "write"])
def test_a_server_that_is_not_there_is_named(s3_folder, way):
    nowhere = environment_set({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    with nowhere, pytest.raises(StorageError, match=r"no answer from 127\.0\.0\.1:9") as raised:
        WAYS[way](open_storage(s3_folder))
    assert_clear(raised.value, s3_folder)


def with_threads(work, items) -> None:
    """Call `work` on every item from 16 threads; the first error is raised here."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, items))
