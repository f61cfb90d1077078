"""--downloader img2dataset: its own package makes the pictures, byte for byte; all the rest is as in every run of ours.

It runs in an environment that has both, as `pip install 'tarloom[img2dataset]'` makes it.
"""

import fcntl
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tarloom
from tarloom.create.check import IMG2DATASET_LACKS, check_options
from tarloom.errors import MissingExtra, UsageError
from tests.create.helpers import configuration, contents
from tests.interop.conftest import FAILING, PICTURES
from tests.peers import peer_python, run_python
from tests.source_tree import ROOT

BOTH = "img2dataset-and-tarloom"
PROGRAM = ROOT / "create" / "create_webdataset.py"
WORDS = "--downloader img2dataset --allow-private all --timeout 5 --retries 0 --json"


def run(source: Path, output: Path, options: str = "") -> dict:
    """The summary of a run in the environment with both."""
    words = f"{WORDS} {options}".split()
    printed = run_python(
        peer_python(BOTH), PROGRAM, "--source", source, "--output", output, *words, PYTHONPATH=str(ROOT)
    )
    return json.loads(printed.splitlines()[-1])


SAME = "--caption-col caption --image-size 128 --resize-mode keep_ratio --number-sample-per-shard 100"


@pytest.fixture(scope="module")
def made(url_list, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "set"
    summary = run(url_list, folder, SAME)
    assert summary["failed_by_error"] == {"http_404": 1, "not_an_image": 1}
    assert summary["successes"] == PICTURES
    return folder


def test_pictures_are_img2datasets_in_the_order_of_the_input(made, img2datasets_folder, our_folder):
    theirs = {int(sample["__key__"]): sample for sample in tarloom.open(img2datasets_folder)}
    found = list(tarloom.open(made))
    assert [sample["__key__"] for sample in found] == [sample["__key__"] for sample in tarloom.open(our_folder)]
    for sample in found:
        same = theirs[int(sample["__key__"])]
        assert (sample["jpg"], sample["txt"]) == (same["jpg"], same["txt"])
        fields = json.loads(same["json"]) | {"key": sample["__key__"], "error": None}
        assert json.loads(sample["json"]) == fields


def test_what_it_made_is_sound_and_rows_are_named(made):
    checked = subprocess.run([sys.executable, "-m", "tarloom.cli", "verify", "--path", made], cwd=ROOT)
    assert checked.returncode == 0
    table = pa.concat_tables(pq.read_table(path) for path in sorted(made.glob("*.parquet")))
    failed = [row for row in table.select(["url", "error", "error_message"]).to_pylist() if row["error"]]
    assert [(row["url"].partition("/trouble/")[2], row["error"]) for row in failed] == [
        (FAILING[0].removeprefix("trouble/"), "http_404"),
        (FAILING[1].removeprefix("trouble/"), "not_an_image"),
    ]
    assert failed[0]["error_message"] == "http_404: the server answered 404"


def test_a_run_goes_on_where_it_stopped_to_the_same_bytes(made, url_list, tmp_path):
    out = tmp_path / "out"
    run(url_list, out, f"{SAME} --shards 1:")
    summary = run(url_list, out, f"{SAME} --num-workers 2")
    assert summary["skipped"] == 1
    assert contents(out) == contents(made)


def test_nothing_of_this_machine_is_read_and_every_row_is_named(photo_server, tmp_path):
    urls = [f"file://{ROOT}/source_data/pictures/0001.jpg", None, "http://127.0.0.1:1/x.jpg"]
    urls += [f"{photo_server.url}/trouble/{name}.jpg" for name in ("loop", "broken", "stalls")]
    urls += ["http://nowhere.invalid/x.jpg", f"{photo_server.url}/pictures/0001.jpg"]
    pq.write_table(pa.table({"url": urls}), tmp_path / "list.parquet")
    run(tmp_path / "list.parquet", tmp_path / "out", "--output-format parquet --compute-hash md5 --key-from url")
    table = pq.read_table(tmp_path / "out" / "00000.parquet")
    errors = ["scheme_refused", "bad_url", "connect", "too_many_redirects", "http_500", "timeout", "dns"]
    assert table["error"].to_pylist() == [*errors, None]
    assert table["jpg"].null_count == len(errors)
    assert table["md5"].null_count == len(errors)


def test_what_a_killed_worker_left_is_removed_and_what_a_living_one_has_is_not(url_list, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name in ("dead", "living"):
        (tmp_path / f"tarloom-img2dataset-{name}").mkdir()
        (tmp_path / f"tarloom-img2dataset-{name}" / "lock").touch()
    with open(tmp_path / "tarloom-img2dataset-living" / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(url_list, tmp_path / "out", "--shards 1: --number-sample-per-shard 100")
    assert [path.name for path in tmp_path.glob("tarloom-*")] == ["tarloom-img2dataset-living"]


def test_hashes_are_verified_and_boxes_blurred(photo_server, tmp_path):
    urls = [f"{photo_server.url}/pictures/000{number}.jpg" for number in (1, 2, 3)]
    data = [(ROOT / "source_data" / "pictures" / f"000{number}.jpg").read_bytes() for number in (1, 2, 3)]
    sums = [hashlib.md5(data[0]).hexdigest(), hashlib.md5(b"another").hexdigest(), hashlib.md5(data[2]).hexdigest()]
    boxes = [[[0.1, 0.1, 0.9, 0.9]], None, []]
    pq.write_table(pa.table({"url": urls, "sum": sums, "boxes": boxes}), tmp_path / "list.parquet")
    options = "--verify-hash sum md5 --compute-hash md5 --no-extract-exif --output-format parquet"
    run(tmp_path / "list.parquet", tmp_path / "plain", options)
    run(tmp_path / "list.parquet", tmp_path / "blurred", f"{options} --bbox-col boxes")
    plain, blurred = (pq.read_table(tmp_path / name / "00000.parquet") for name in ("plain", "blurred"))
    assert plain["error"].to_pylist() == blurred["error"].to_pylist() == [None, "hash_mismatch", None]
    assert blurred.column_names[:3] == ["boxes", "md5", "url"]
    assert [a == b for a, b in zip(plain["jpg"].to_pylist(), blurred["jpg"].to_pylist(), strict=True)] == [
        False,
        True,
        True,
    ]


def check(source: Path, **options) -> None:
    """Check the options of a run with img2dataset's downloader."""
    check_options(replace(configuration(source, Path("out"), **options), downloader="img2dataset"))


def test_without_the_package_the_line_that_installs_it_is_named(url_list):
    with pytest.raises(MissingExtra, match=r"pip install 'tarloom\[img2dataset\]'"):
        check(url_list, allow_private=("all",))


@pytest.mark.parametrize("option", IMG2DATASET_LACKS.split())
def test_what_it_cannot_do_is_refused(option, url_list):
    values = {"user_agent": "mine", "robots_txt": True, "tdm_reservation": True, "max_pixels": 10**6}
    with pytest.raises(UsageError, match=f"{option}: img2dataset cannot do that"):
        check(url_list, allow_private=("all",), **{option: values.get(option, 5)})


def test_that_it_goes_to_private_addresses_must_be_said(url_list):
    with pytest.raises(UsageError, match="say so with allow_private all"):
        check(url_list)
