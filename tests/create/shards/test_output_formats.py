"""img2dataset's output formats: the same rows, members and counts in each; committed whole, in input order."""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tarloom
from tarloom.create.shards import shard_files
from tarloom.errors import UsageError
from tarloom.format.storage import open_storage
from tarloom.format.verify.dataset import verify
from tests.create.helpers import PICTURES, configuration, contents, create, rows, write_list
from tests.source_tree import ROOT

FORMATS = ("webdataset", "files", "parquet", "dummy")
PATHS = [f"pictures/{number:04d}.jpg" for number in range(1, 13)]
PATHS[3:3] = ["trouble/missing.jpg", "trouble/page.jpg"]
FAILED = {3: "http_404", 4: "not_an_image"}
OPTIONS = {"caption_col": "text", "retries": 0}


@pytest.fixture(scope="module")
def source(photo_server, tmp_path_factory) -> Path:
    """Fourteen rows, two of which fail; one has no caption."""
    captions = [None, *(f"picture {number}" for number in range(1, len(PATHS)))]
    table = pa.table({"url": [f"{photo_server.url}/{path}" for path in PATHS], "text": captions})
    path = tmp_path_factory.mktemp("source") / "list.parquet"
    pq.write_table(table, path)
    return path


@pytest.fixture(scope="module")
def made(source, tmp_path_factory) -> dict[str, Path]:
    """The same list in each format, in two shards."""
    folder = tmp_path_factory.mktemp("made")
    for output_format in FORMATS:
        create(source, folder / output_format, output_format=output_format, **OPTIONS)
    return {output_format: folder / output_format for output_format in FORMATS}


def members(folder: Path) -> dict[str, bytes]:
    """All members of all tars by name."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar}
    return found


def plain_rows(folder: Path) -> list[dict]:
    return [
        {name: row[name] for name in row if name != "jpg"}
        for shard in ("00000", "00001")
        for row in rows(folder, shard)
    ]


def test_files_are_the_members_of_the_tars(made):
    tars = members(made["webdataset"])
    files = {path.name: path.read_bytes() for path in made["files"].glob("0000?/*")}
    assert len(files) == 3 * 12
    assert files == tars
    assert {path.parent.name for path in made["files"].glob("*/000000013.*")} == {"00001"}


def test_metadata_is_the_same_whatever_holds_the_pictures(made):
    assert plain_rows(made["files"]) == plain_rows(made["parquet"]) == plain_rows(made["webdataset"])


def test_parquet_holds_the_pictures_before_our_own_column_and_null_for_rows_that_failed(made):
    found = pa.concat_tables(pq.read_table(path) for path in sorted(made["parquet"].glob("*.parquet")))
    assert found.column_names[-3:] == ["sha256", "jpg", "error"]
    assert found.schema.field("jpg").type == pa.binary()
    tars = members(made["webdataset"])
    assert found["jpg"].to_pylist() == [tars.get(f"{key}.jpg") for key in found["key"].to_pylist()]
    assert {n: error for n, error in enumerate(found["error"].to_pylist()) if error} == FAILED


def test_dummy_writes_counts_and_the_plan_alone(made):
    assert set(contents(made["dummy"])) == {"00000_stats.json", "00001_stats.json", "_tarloom/plan.json"}


def test_every_format_has_the_same_counts(made):
    def counts(folder: Path) -> list[dict]:
        whole = [json.loads(path.read_text()) for path in sorted(folder.glob("*_stats.json"))]
        return [{name: stats[name] for name in ("count", "successes", "status_dict")} for stats in whole]

    assert [stats["count"] for stats in counts(made["dummy"])] == [10, 4]
    assert counts(made["dummy"]) == counts(made["files"]) == counts(made["parquet"]) == counts(made["webdataset"])


@pytest.mark.parametrize("output_format", FORMATS)
def test_the_same_list_gives_the_same_bytes_on_any_number_of_workers(made, source, tmp_path, output_format):
    create(source, tmp_path / "again", output_format=output_format, workers=2, **OPTIONS)
    assert contents(tmp_path / "again") == contents(made[output_format])


@pytest.mark.parametrize("output_format", FORMATS)
def test_done_shards_are_skipped_and_one_without_its_stats_is_made_again(made, source, tmp_path, output_format):
    out = tmp_path / "out"
    create(source, out, output_format=output_format, **OPTIONS)
    assert create(source, out, output_format=output_format, **OPTIONS).skipped == 2
    (out / "00001_stats.json").unlink()
    if output_format == "files":
        (out / "00001" / "000000011.jpg").unlink()
        (out / "00001" / "000000012.jpg").write_bytes(b"of another run")
        (out / "00001" / "000000099.jpg").write_bytes(b"of a row that failed now")
    assert create(source, out, output_format=output_format, **OPTIONS).skipped == 1
    assert contents(out) == contents(made[output_format])


def test_a_name_that_is_too_long_for_a_file_costs_its_row_alone(tmp_path):
    (tmp_path / "pictures").mkdir()
    for length in (1, 236, 250, 251):
        shutil.copy(PICTURES / "0001.jpg", tmp_path / "pictures" / f"{'x' * length}.jpg")
    create(tmp_path / "pictures", tmp_path / "out", output_format="files")
    assert [row["error"] for row in rows(tmp_path / "out")] == [None, None, None, "bad_key"]
    assert len(list((tmp_path / "out" / "00000").iterdir())) == 2 * 3


def test_a_second_commit_that_fails_before_any_file_is_in_place_leaves_a_done_shard_done(tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    shutil.copy(PICTURES / "0001.jpg", tmp_path / "pictures" / "a.jpg")
    config = configuration(tmp_path / "pictures", tmp_path / "out")
    create(tmp_path / "pictures", tmp_path / "out")
    before = contents(tmp_path / "out")
    schema = pq.read_schema(tmp_path / "out" / "00000.parquet")
    monkeypatch.setattr(shard_files.TarWriter, "close", lambda tar: 1 / 0)
    empty = pa.table({"url": pa.array([], pa.string())})
    storage = open_storage(tmp_path / "out")
    with (
        pytest.raises(ZeroDivisionError),
        shard_files.open_shard(storage, config, shard="00000", rows=empty, schema=schema) as shard,
    ):
        shard.commit()
    assert contents(tmp_path / "out") == before
    assert (tmp_path / "out" / "00000_stats.json").exists()


@pytest.mark.parametrize(
    ("options", "errors"),
    [
        ({}, ["bad_key", None, None]),
        ({"key_from": "url"}, [None, None, None]),
        ({"output_format": "files"}, [None, None, None]),
    ],
    ids=["paths", "urls", "files"],
)
def test_pictures_in_folders_that_readers_of_tars_leave_out_cost_their_rows_alone(tmp_path, options, errors):
    names = ("__x__/a.jpg", "b/__x__/a.jpg", "b/__x__.jpg")
    for name in (*names, "__MACOSX/b/._c.jpg"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PICTURES / "0001.jpg", path)
    create(tmp_path / "pictures", tmp_path / "out", **options)
    found = {row["url"]: row["error"] for row in rows(tmp_path / "out")}
    assert found == dict(zip(names, errors, strict=True))
    if "output_format" not in options:
        assert len(tarloom.open(tmp_path / "out")) == errors.count(None)


def test_another_format_in_the_same_place_is_refused(made, source):
    with pytest.raises(UsageError, match="output_format was"):
        create(source, made["files"], output_format="parquet", **OPTIONS)


def test_row_groups_are_bounded_and_end_at_the_same_rows(made, source, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_files, "ROW_GROUP_BYTES", 4000)
    for name in ("a", "b"):
        create(source, tmp_path / name, output_format="parquet", **OPTIONS)
    file = pq.ParquetFile(tmp_path / "a" / "00000.parquet")
    assert file.num_row_groups > 2
    assert pq.read_table(tmp_path / "a" / "00000.parquet").equals(pq.read_table(made["parquet"] / "00000.parquet"))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(("output_format", "begun"), [("files", "00000/000000004.json"), ("parquet", ".tmp-00000.*")])
def test_a_killed_run_leaves_nothing_that_looks_whole_and_goes_on(photo_server, tmp_path, output_format, begun):
    """It is killed in its first shard, behind some pictures, while it waits for an address that says nothing."""
    paths = [*PATHS[:3], *PATHS[5:8], "trouble/stalls.jpg", *PATHS[8:]]
    source = write_list(tmp_path / "urls.txt", [f"{photo_server.url}/{path}" for path in paths])
    create(source, tmp_path / "whole", output_format=output_format, retries=0, timeout=4)
    whole, out = contents(tmp_path / "whole"), tmp_path / "out"
    options = (
        "--output-format files --number-sample-per-shard 10 --image-size 64 --timeout 60 --allow-private 127.0.0.0/8"
    )
    words = options.replace("files", output_format).split()
    command = [sys.executable, "create/create_webdataset.py", "--source", source, "--output", out, *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(out.glob(begun)):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    left = {name: data for name, data in contents(out).items() if ".tmp-" not in name}
    assert "00000_stats.json" not in left
    assert "00000.parquet" not in left
    assert left.items() <= whole.items()
    create(source, out, output_format=output_format, retries=0, timeout=4)
    assert contents(out) == whole


@pytest.mark.parametrize("output_format", ["files", "parquet", "dummy"])
def test_readers_and_the_check_say_that_these_are_no_tars(made, output_format):
    with pytest.raises(UsageError, match="its shards are no tars"):
        tarloom.open(made[output_format])
    with pytest.raises(UsageError, match="its shards are no tars"):
        list(verify(made[output_format]))


def test_a_folder_of_pictures_keeps_its_folders_as_files(tmp_path, pictures):
    (pictures / "0001.jpg").rename(pictures / "deep.er.jpg")
    (pictures / "far").mkdir()
    (pictures / "0002.jpg").rename(pictures / "far" / "0002.jpg")
    create(pictures, tmp_path / "out", output_format="files", number_sample_per_shard=100)
    names = {str(path.relative_to(tmp_path / "out" / "00000")) for path in (tmp_path / "out").rglob("*.jpg")}
    assert len(names) == 20
    assert {"deep_er.jpg", "far/0002.jpg"} <= names


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ({}, "exif sha256 error"),
        ({"compute_hash": "md5"}, "exif md5 error"),
        ({"compute_hash": "sha512"}, "exif sha512 error"),
        ({"compute_hash": "none"}, "original_height exif error"),
        ({"extract_exif": False}, "original_height sha256 error"),
        ({"output_format": "parquet", "encode_format": "webp"}, "exif sha256 webp error"),
    ],
)
def test_columns_are_those_that_the_options_ask_for(source, tmp_path, options, columns):
    create(source, tmp_path / "out", shards="1:", **OPTIONS | options)
    found = rows(tmp_path / "out", "00001")
    assert list(found[0])[-3:] == columns.split()[-3:]
    for tar in (tmp_path / "out").glob("*.tar"):
        fields = json.loads(next(data for name, data in members(tar.parent).items() if name.endswith(".json")))
        assert list(fields) == list(found[0])


def test_bytes_of_another_hash_than_the_lists_fail(photo_server, tmp_path):
    data = [(PICTURES / f"000{number}.jpg").read_bytes() for number in (1, 2, 3)]
    digests = [hashlib.md5(data[0]).hexdigest().upper(), hashlib.md5(b"other").hexdigest(), None]
    urls = [f"{photo_server.url}/pictures/000{number}.jpg" for number in (1, 2, 3)]
    pq.write_table(pa.table({"url": urls, "sum": digests}), tmp_path / "list.parquet")
    create(tmp_path / "list.parquet", tmp_path / "out", verify_hash=("sum", "md5"), compute_hash="md5")
    found = rows(tmp_path / "out")
    assert list(found[0])[:3] == ["md5", "url", "key"]
    assert [(row["status"], row["error"]) for row in found] == [
        ("success", None), ("failed_to_download", "hash_mismatch"), ("failed_to_download", "hash_mismatch"),
    ]  # fmt: skip
    assert [row["md5"] for row in found] == [digests[0].lower(), None, None]
