"""Lists on web servers and on the Hugging Face hub: the same rows as from a local file, or one clear line."""

import pickle
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tarloom.create.config import CreateConfig, ListOptions
from tarloom.create.sources import web_file
from tarloom.create.sources.open import open_source
from tarloom.errors import MissingExtra, StorageError, TarloomError, UsageError
from tests.create.helpers import create, rows
from tests.create.sources.list_servers import FileServer, serving
from tests.format.raw import some_samples, write_tar

URLS = [f"http://example.org/{number}.jpg" for number in range(5000)]


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(web_file, "FIRST_PAUSE", 0.01)
    folder = tmp_path / "served"
    (folder / "more").mkdir(parents=True)
    (folder / "list.csv").write_text("url\n" + "".join(f"{url}\n" for url in URLS))
    (folder / "more" / "list.txt").write_text("".join(f"{url}\n" for url in URLS))
    pq.write_table(pa.table({"url": URLS, "other": [url * 20 for url in URLS]}), folder / "list.parquet")
    with serving(folder) as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        yield found


def source_of(source: str, **options):
    return open_source(CreateConfig(source=source, output="unused", lists=ListOptions(**options)))


def urls_in(source: str, start: int = 0, **options) -> list[str]:
    opened = source_of(source, **options)
    count, additional = opened.scan()
    assert count == len(URLS)
    return [url for table in opened.tables(additional, start) for url in table["url"].to_pylist()]


NAMES = ["list.csv", "list.parquet", "more/list.txt"]


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("name", NAMES)
def test_a_list_on_a_web_server_gives_its_rows(server, name, ranges):
    server.ranges = ranges
    assert urls_in(f"{server.url}/{name}?signature=a*b", 4000) == URLS[4000:]
    assert urls_in(f"{server.url}/moved/{name}") == URLS


def test_a_server_without_ranges_is_asked_once(server):
    server.ranges = False
    urls_in(f"{server.url}/list.parquet")
    assert len(server.requests) == 1


@pytest.mark.parametrize("content_range", ["Bytes {}-{}/{}", "bytes {}-{}/*", "nonsense"])
@pytest.mark.parametrize("name", NAMES)
def test_however_a_server_says_which_part_it_sends_all_rows_come(server, name, content_range):
    server.content_range = content_range
    assert urls_in(f"{server.url}/{name}") == URLS
    assert len(server.requests) == 2 or "Bytes" in content_range


def test_a_server_that_only_ever_sends_a_part_is_named(server):
    server.content_range, server.always_ranges = "bytes {}-{}/*", True
    with pytest.raises(StorageError, match=r"list\.csv: the server sends a part"):
        source_of(f"{server.url}/list.csv")


def test_a_server_that_fails_for_a_while_is_asked_again(server):
    server.fail_next, server.cut_next = 2, 1
    assert urls_in(f"{server.url}/list.csv") == URLS


def test_a_list_that_changes_while_it_is_read_is_noticed(server):
    source = source_of(f"{server.url}/list.csv")
    with (server.folder / "list.csv").open("a") as file:
        file.write("http://example.org/new.jpg\n")
    with pytest.raises(StorageError, match="has changed while it was read"):
        source.scan()


@pytest.mark.parametrize("etags", [True, False], ids=["etags", "no etags"])
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_the_fingerprint_tells_another_list(server, etags, ranges):
    server.etags, server.ranges = etags, ranges
    prints = [source_of(f"{server.url}/list.csv").fingerprint() for _ in range(2)]
    (server.folder / "list.csv").write_text("url\n" + "".join(f"{url}\n" for url in reversed(URLS)))
    assert len({*prints}) == 1
    assert source_of(f"{server.url}/list.csv").fingerprint() not in prints


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent.csv", "answers 404"),
        ("loop", "answers 302"),
        ("elsewhere", "not allowed"),
    ],
)
def test_what_is_no_list_is_refused_in_one_line(server, path, message):
    with pytest.raises(StorageError, match=message) as caught:
        source_of(f"{server.url}/{path}")
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(web_file, "FIRST_PAUSE", 0.01)
    with serving(tmp_path) as server:
        address = f"{server.url}/list.csv"
    with pytest.raises(StorageError, match=r"list\.csv: .*refused"):
        source_of(address)


@pytest.mark.parametrize("where", NAMES)
def test_a_list_on_the_hub_gives_its_rows(server, where):
    pytest.importorskip("huggingface_hub")
    assert urls_in(f"hf://datasets/u/r/{where}", 4000) == URLS[4000:]


@pytest.mark.parametrize(("where", "options"), [("more", {}), ("*/*.txt", {}), ("", {"input_format": "csv"})])
def test_folders_and_globs_on_the_hub_name_lists(server, where, options):
    pytest.importorskip("huggingface_hub")
    assert urls_in(f"hf://datasets/u/r/{where}", **options) == URLS


@pytest.mark.parametrize("where", ["u/absent/list.csv", "u/r/absent.csv", "u"])
def test_what_the_hub_does_not_have_is_refused_in_one_line(server, where):
    pytest.importorskip("huggingface_hub")
    with pytest.raises(TarloomError) as caught:
        source_of(f"hf://datasets/{where}")
    assert where in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pictures_on_the_hub_are_a_source(server: FileServer, pictures, tmp_path):
    pytest.importorskip("huggingface_hub")
    pictures.rename(server.folder / "photos")
    summary = create("hf://datasets/u/r/photos", tmp_path / "shards")
    assert (summary.rows, summary.successes) == (20, 20)
    assert [row["key"] for row in rows(tmp_path / "shards")][:2] == ["0001", "0002"]


def test_shards_on_the_hub_are_a_source_and_read_in_few_requests(server, tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("TARLOOM_CACHE", str(tmp_path / "cache"))
    write_tar(server.folder / "shards" / "0.tar", some_samples(200))
    summary = create("hf://datasets/u/r/shards", tmp_path / "out", disable_all_reencoding=True)
    assert (summary.rows, summary.successes, summary.shards) == (200, 200, 20)
    assert len(server.requests) < 100
    with pytest.raises(UsageError, match="copy the file"):
        source_of(f"{server.url}/shards/0.tar", input_format="tars")


def test_the_hub_is_only_read_from(server):
    pytest.importorskip("huggingface_hub")
    from tarloom.create.sources.hub import HubStorage

    storage = pickle.loads(pickle.dumps(HubStorage("hf://datasets/u/r")))
    assert bytes(storage.read("list.csv")).startswith(b"url\n")
    for write in (
        lambda: storage.write("new", b""),
        lambda: storage.write_new("new", b""),
        lambda: storage.delete("list.csv"),
    ):
        with pytest.raises(StorageError, match="can only be read from"):
            write()


def test_an_output_cannot_lie_on_a_web_server(server, tmp_path):
    with pytest.raises(UsageError, match="unknown scheme 'http'"):
        create(f"{server.url}/list.csv", f"{server.url}/shards")


@pytest.mark.parametrize("address", ["http://", "http://[::1/list.csv", "https://user:secret@example.org/list.csv"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError, match="address") as caught:
        source_of(address)
    assert "secret" not in str(caught.value)


def test_without_huggingface_hub_the_line_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "tarloom.create.sources.hub", raising=False)
    with pytest.raises(MissingExtra, match=r"huggingface_hub is not installed; run: pip install 'tarloom\[hf\]'"):
        source_of("hf://datasets/u/r/list.csv")
