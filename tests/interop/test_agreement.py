"""One command line, two programs: what img2dataset 1.47 makes of it and what we make of it agree, in every format.

What differs is documented (docs/img2dataset.md): the order of rows, the words of errors, our column `error`, the sizes
of pictures that their camera has turned, and that an empty body is a failed download.
"""

import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tarloom
from source_data.serve import PhotoServer
from tests.interop.conftest import IMG2DATASET
from tests.interop.mixed import EMPTY, TURNED, write_list, write_pictures
from tests.peers import peer_python, run_python
from tests.source_tree import ROOT

WORDS = {
    "input_format": "parquet",
    "url_col": "link",
    "caption_col": "text",
    "save_additional_columns": '["score","n","tags"]',
    "image_size": 128,
    "resize_mode": "keep_ratio",
    "number_sample_per_shard": 20,
    "oom_shard_count": 4,
    "processes_count": 1,
    "thread_count": 8,
    "timeout": 5,
    "retries": 0,
}
RUNS = {
    "webdataset": {},
    "files, as they came": {"output_format": "files", "disable_all_reencoding": True, "compute_hash": "sha512"},
    "csv to parquet of png": {
        "output_format": "parquet", "encode_format": "png", "encode_quality": 5,
        "input_format": "csv", "save_additional_columns": '["score","n"]',
    },
    "hashes": {
        "verify_hash": '["sum","md5"]', "compute_hash": "md5", "bbox_col": "boxes", "extract_exif": False,
        "caption_col": None, "save_additional_columns": '["n"]',
    },
}  # fmt: skip


class Pair:
    """The two folders of one command line."""

    def __init__(self, theirs: Path, ours: Path, options: dict) -> None:
        self.theirs, self.ours = theirs, ours
        self.decodes = "disable_all_reencoding" not in options
        self.verifies = "verify_hash" in options

    def is_empty(self, name: str) -> bool:
        """Whether a member is of the empty body."""
        rows = (row for _, ours in self.tables() for row in ours.select(["key", "url"]).to_pylist())
        return any(row["key"] in name for row in rows if EMPTY in (row["url"] or ""))

    def tables(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Of each shard, both sorted by key."""
        names = sorted(path.name for path in self.theirs.glob("*.parquet"))
        assert names == sorted(path.name for path in self.ours.glob("*.parquet")) == ["0000.parquet", "0001.parquet"]
        for name in names:
            yield pq.read_table(self.theirs / name).sort_by("key"), pq.read_table(self.ours / name)


@pytest.fixture(scope="module")
def url_list(tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("mixed")
    names = write_pictures(folder / "served" / "pictures")
    with PhotoServer(folder / "served") as server:
        write_list(folder / "list.parquet", server.url, names)
        yield folder / "list.parquet"


@pytest.fixture(scope="module", params=RUNS)
def pair(request, url_list, tmp_path_factory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    python = peer_python(IMG2DATASET)
    programs = {
        "theirs": [python, python.with_name("img2dataset")],
        "ours": [sys.executable, ROOT / "create" / "create_webdataset.py", "--allow-private", "127.0.0.0/8"],
    }
    for who, program in programs.items():
        chosen = {"url_list": None, "output_folder": folder / who, "output_format": "webdataset"} | WORDS
        chosen |= RUNS[request.param]
        chosen["url_list"] = url_list.with_suffix(f".{chosen['input_format']}")
        words = [w for name, value in chosen.items() if value is not None for w in (f"--{name}", str(value))]
        run_python(*program, *words, NO_ALBUMENTATIONS_UPDATE="1")
    return Pair(folder / "theirs", folder / "ours", RUNS[request.param])


def test_columns_are_the_same_in_order_and_type_up_to_our_own(pair):
    for theirs, ours in pair.tables():
        assert ours.column_names == [*theirs.column_names, "error"]
        assert ours.schema.types[:-1] == theirs.schema.types


def test_keys_and_statuses_are_the_same(pair):
    for theirs, ours in pair.tables():
        assert ours["key"].to_pylist() == theirs["key"].to_pylist()
        assert ours["url"].to_pylist() == theirs["url"].to_pylist()
        rows = zip(ours["url"].to_pylist(), theirs["status"].to_pylist(), ours["status"].to_pylist(), strict=True)
        other = [url for url, their, our in rows if their != our and EMPTY not in (url or "")]
        assert other == []


def test_what_is_said_of_a_row_is_the_same(pair):
    for theirs, ours in pair.tables():
        same = [name for name in theirs.column_names if name not in ("status", "error_message", "exif", "jpg", "png")]
        for their, our in zip(theirs.select(same).to_pylist(), ours.select(same).to_pylist(), strict=True):
            if EMPTY in (their["url"] or ""):
                continue
            if TURNED in (their["url"] or "") and pair.decodes:
                their["width"], their["height"] = their["height"], their["width"]
                their["original_width"], their["original_height"] = their["original_height"], their["original_width"]
            assert our == their


IN_WORDS = {"Orientation", "ResolutionUnit", "Compression", "ExposureProgram", "MeteringMode", "Flash"}
"""Tags that img2dataset tells in words, and we as the numbers that they are."""


def test_exif_tags_have_the_same_names_and_texts(pair):
    def tags(text: str | None) -> dict[str, str] | None:
        return text and {name: text for name, text in json.loads(text).items() if name.split()[1] not in IN_WORDS}

    for theirs, ours in pair.tables():
        if "exif" in theirs.column_names:
            found = [tags(text) for text in ours["exif"].to_pylist()]
            wanted = [tags(text) for text in theirs["exif"].to_pylist()]
            assert [f for f, w in zip(found, wanted, strict=True) if w] == [w for w in wanted if w]


def members(folder: Path) -> dict[str, bytes]:
    """Members of tars, or files of a folder a shard, by shard and name."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("????/*")}
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            found |= {f"{path.stem}/{member.name}": tar.extractfile(member).read() for member in tar}
    return found


def test_samples_have_the_same_members_and_fields(pair):
    theirs, ours = members(pair.theirs), members(pair.ours)
    theirs = {name: data for name, data in theirs.items() if not pair.is_empty(name)}
    assert ours.keys() == theirs.keys()
    for name, data in theirs.items():
        if name.endswith(".txt"):
            assert ours[name] == data
        if name.endswith(".json"):
            assert json.loads(ours[name]).keys() == {*json.loads(data), "error"}
        if name.endswith(".jpg") and not pair.decodes:
            assert ours[name] == data


def test_readers_of_one_read_the_other(pair):
    tars = sorted(pair.ours.glob("*.tar"))
    if tars:
        script = Path(__file__).with_name("print_samples.py")
        read_by_theirs = [json.loads(line) for line in run_python(peer_python(IMG2DATASET), script, *tars).splitlines()]
        read_by_ours = {sample["__key__"]: sorted(sample) for sample in tarloom.open(pair.theirs)}
        assert [key for key, _ in read_by_theirs] == sorted(read_by_ours)
        assert all({*read_by_ours[key], "__url__"} == {*found, "__key__", "__url__"} for key, found in read_by_theirs)


def test_pictures_in_a_table_are_there_for_the_same_rows(pair):
    for theirs, ours in pair.tables():
        if "png" in theirs.column_names:
            assert ours["png"].is_null().equals(theirs["png"].is_null())
            assert [d[:4] for d in ours["png"].to_pylist() if d] == [d[:4] for d in theirs["png"].to_pylist() if d]


def test_counts_are_those_of_the_rows_and_the_same_but_for_the_empty_body(pair):
    for path in sorted(pair.theirs.glob("*_stats.json")):
        theirs, ours = json.loads(path.read_text()), json.loads((pair.ours / path.name).read_text())
        table = pd.read_parquet(pair.ours / path.name.replace("_stats.json", ".parquet"))
        empty = 0 if pair.verifies else sum(EMPTY in (url or "") for url in table["url"])
        assert ours["count"] == theirs["count"] == len(table)
        assert ours["failed_to_download"] == theirs["failed_to_download"] + empty
        assert ours["successes"] == theirs["successes"] - (0 if pair.decodes else empty)
