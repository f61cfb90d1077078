"""Failed rows of finished shards are fetched again: the shards are then as if all had gone well at once."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tarloom
from tarloom.errors import UsageError
from tarloom.format.index_load import load_index
from tarloom.format.sidecar import SidecarInfo, write_sidecar
from tarloom.format.storage import open_storage
from tarloom.format.verify.dataset import verify
from tests.create.helpers import contents, create, table, write_list
from tests.create.sources.flaky import FlakyServer
from tests.source_tree import ROOT

OPTIONS = {"number_sample_per_shard": 10, "retries": 0, "image_size": 64, "timeout": 20.0, "thread_count": 4}
SHARDS = 4
ROWS = 10 * SHARDS


@pytest.fixture
def server():
    with FlakyServer() as server:
        yield server


@pytest.fixture
def source(server, tmp_path):
    return write_list(tmp_path / "urls.txt", server.urls(ROWS))


def made_with_luck(server, source, folder, *troubles):
    """What a run makes that never meets these troubles."""
    met = set(server.troubles)
    server.recover(*troubles)
    create(source, folder, **OPTIONS)
    server.troubles = met
    server.requests.clear()
    return contents(folder)


@pytest.mark.parametrize(
    ("again", "passing"),
    [("transient", ["503"]), ("transient", ["503", "404", "page"]), ("all", ["503", "404", "page"])],
)
def test_failed_rows_are_fetched_again_and_nothing_else(server, source, tmp_path, again, passing):
    expected = made_with_luck(server, source, tmp_path / "luck", *(["503"] if again == "transient" else passing))
    create(source, tmp_path / "out", **OPTIONS)
    server.recover(*passing)
    server.requests.clear()
    summary = create(source, tmp_path / "out", retry_failed=again, **OPTIONS)
    assert contents(tmp_path / "out") == expected
    assert {path.split("/")[1] for path in server.requests} == ({"503"} if again == "transient" else set(passing))
    assert summary.rows == ROWS
    assert (summary.shards, summary.skipped) == (SHARDS, 1)
    assert [finding for report in verify(tmp_path / "out") for finding in report.findings] == []


def test_shards_without_such_failures_are_left_alone(server, source, tmp_path):
    create(source, tmp_path, **OPTIONS)
    before = (tmp_path / "00003.tar").stat().st_ino
    stats = (tmp_path / "00003_stats.json").read_bytes()
    create(source, tmp_path, retry_failed="all", **OPTIONS)
    assert (tmp_path / "00003.tar").stat().st_ino == before
    assert (tmp_path / "00003_stats.json").read_bytes() == stats


def test_what_fails_again_leaves_the_same_bytes(server, source, tmp_path):
    create(source, tmp_path, **OPTIONS)
    before = contents(tmp_path)
    create(source, tmp_path, retry_failed="all", **OPTIONS)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("moment", range(5))
def test_a_run_that_dies_between_two_files_of_a_shard_loses_nothing(server, source, tmp_path, moment):
    """Files appear whole, one after the other: these are all states that a kill while a shard is replaced can leave."""
    create(source, tmp_path / "old", **OPTIONS)
    new = made_with_luck(server, source, tmp_path / "new", "503")
    out = tmp_path / "out"
    shutil.copytree(tmp_path / "old", out)
    if moment:
        (out / "00001_stats.json").unlink()
    for name in ["00001.tar", "00001.parquet", "_tarloom/index/00001.parquet"][: max(0, moment - 1)]:
        shutil.copy(tmp_path / "new" / name, out / name)
    kept = tarloom.open(out).select("jpg", "url")
    assert len(kept) == 6 + 6 + 10 + (6 if moment == 0 else 0)
    server.recover("503")
    server.requests.clear()
    create(source, out, retry_failed="transient", **OPTIONS)
    assert contents(out) == new
    assert "" not in {path.partition("/0")[0] for path in server.requests}, "a picture that was there was fetched again"


@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.7])
def test_a_killed_run_over_failed_rows_goes_on_to_the_same_bytes(server, source, tmp_path, seconds):
    out = tmp_path / "out"
    create(source, out, **OPTIONS)
    old, new = contents(out), made_with_luck(server, source, tmp_path / "new", "503")
    server.recover("503")
    server.seconds = 0.05
    words = ["--number-sample-per-shard=10", "--retries=0", "--image-size=64", "--timeout=20", "--thread-count=4"]
    program = [sys.executable, ROOT / "create" / "create_webdataset.py", "--source", source, "--output", out, *words]
    process = subprocess.Popen(
        [*program, "--allow-private=127.0.0.0/8", "--retry-failed=transient"], stderr=subprocess.PIPE, text=True
    )
    while not server.requests and process.poll() is None:
        time.sleep(0.005)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    found = contents(out)
    for name, data in old.items():
        assert name.endswith("_stats.json") or found[name] in (data, new[name]), name
    create(source, out, retry_failed="transient", **OPTIONS)
    assert contents(out) == new


def test_a_sidecar_of_a_shard_that_has_changed_is_stale(server, source, tmp_path, caplog):
    out = tmp_path / "out"
    create(source, out, **OPTIONS)
    for shard in ("00000", "00003"):
        add_sidecar(out, shard)
    server.recover("503")
    create(source, out, retry_failed="transient", **OPTIONS)
    assert "sidecars of 1 shards are stale now (note)" in caplog.text
    problems = [finding for report in verify(out) for finding in report.findings]
    assert {finding.file for finding in problems} == {"00000.note.parquet"}
    assert "run the stage again" in problems[0].problem


def add_sidecar(out, shard) -> None:
    storage = open_storage(out)
    index = load_index(storage, shard, storage.head(f"{shard}.tar"))
    nulls = pa.nulls(index.rows, pa.string())
    table = pa.table({"__key__": index.keys, "status": pa.array(["success"] * index.rows), "error": nulls})
    info = SidecarInfo(stage="note", fingerprint={}, identity=index.identity, rows=index.rows)
    write_sidecar(storage, shard, table, info)


@pytest.mark.parametrize("output_format", ["files", "parquet", "dummy"])
def test_formats_whose_samples_cannot_be_taken_over_are_refused(source, tmp_path, output_format):
    with pytest.raises(UsageError, match="needs webdataset"):
        create(source, tmp_path / "out", retry_failed="all", output_format=output_format)


LISTED = [
    {},
    {"key_from": "shard"},
    {"key_from": "url"},
    {"key_from": "name"},
    {"encode_format": "png", "encode_quality": 1},
    {"encode_format": "webp", "compute_hash": "md5", "extract_exif": False},
    {"compute_hash": "none", "resize_mode": "keep_ratio"},
    {"disable_all_reencoding": True},
    {"skip_reencode": True, "resize_mode": "no"},
    {"dedup_urls": True},
]


def rich_list(server, path):
    """Captions of every kind, other columns, rows that fail for what the list says, URLs that come twice."""
    urls = server.urls(20)
    captions = ["", "plain", "with\ttab", "ünïcode \N{GRINNING FACE}", None]
    lines = [
        {"url": url, "text": captions[n % 5], "name": f"n{n % 17}", "at": f"2024-01-{n + 1:02d}", "score": n / 7}
        for n, url in enumerate([*urls, urls[0], urls[1]])
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("options", LISTED, ids=str)
def test_samples_of_a_list_are_taken_over_to_the_last_byte(server, tmp_path, options):
    source = rich_list(server, tmp_path / "list.jsonl")
    options = {"caption_col": "text", "save_additional_columns": ("at", "score", "name"), **OPTIONS, **options}
    options |= {"number_sample_per_shard": 30, "save_additional_columns": options["save_additional_columns"]}
    whole_and_again(server, source, tmp_path / "out", options)


def test_times_that_python_cannot_hold_are_no_hindrance(server, tmp_path):
    listed = pa.table(
        {
            "url": server.urls(20),
            "late": pa.array([253_402_300_800_000_000] * 20, pa.timestamp("us")),
            "exact": pa.array([[1, None]] * 20, pa.list_(pa.timestamp("ns"))),
        }
    )
    pq.write_table(listed, tmp_path / "list.parquet")
    options = {**OPTIONS, "number_sample_per_shard": 30, "save_additional_columns": ("late", "exact")}
    create(tmp_path / "list.parquet", tmp_path / "out", **options)
    before = contents(tmp_path / "out")
    again = create(tmp_path / "list.parquet", tmp_path / "out", **options, retry_failed="transient")
    assert (again.rows, again.failed_shards) == (20, {})
    assert contents(tmp_path / "out") == before


def test_samples_keyed_by_their_content_are_taken_over_to_the_last_byte(server, tmp_path):
    """Of the rows that have one URL, and so one key, the first holds it; the second is fetched to find that out."""
    source = rich_list(server, tmp_path / "list.jsonl")
    options = {**OPTIONS, "key_from": "content", "number_sample_per_shard": 30}
    whole_and_again(server, source, tmp_path / "out", options, also={"0001.jpg"})


def test_samples_of_a_folder_are_taken_over_to_the_last_byte(pictures, server, tmp_path):
    (pictures / "0003.json").write_text('{"b": [1, null, 1.5], "a": "x", "width": "odd", "n": 1e400}')
    (pictures / "0004.txt").unlink()
    (pictures / "0005.jpg").write_bytes(b"no picture")
    whole_and_again(server, pictures, tmp_path / "out", {"number_sample_per_shard": 30, "image_size": 64})


def whole_and_again(server, source, out, options, also=frozenset()):
    """Make a dataset, leave it as a kill does and go on; then retry: the same bytes, nothing that is there fetched."""
    create(source, out, **options)
    before = contents(out)
    errors = table(out)["error"]
    assert 0 < errors.null_count < len(errors)
    for forgotten, more in ([("_stats.json", ".parquet"), {}], [(), {"retry_failed": "all"}]):
        for ending in forgotten:
            (out / f"00000{ending}").unlink()
        server.requests.clear()
        create(source, out, **options, **more)
        assert contents(out) == before
        assert {path.split("/")[1] for path in server.requests} <= {"503", "404", "page", *also}
