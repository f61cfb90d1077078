"""The same pictures, packed by us and by img2dataset."""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from source_data.serve import PhotoServer
from tests.peers import peer_python, run_python
from tests.source_tree import ROOT

IMG2DATASET = "img2dataset-1.47.0"
PICTURES = 110
SHARD_ROWS = 100
FAILING = ("trouble/missing.jpg", "trouble/page.jpg")


@pytest.fixture(scope="session")
def photo_server() -> Iterator[PhotoServer]:
    with PhotoServer() as server:
        yield server


@pytest.fixture(scope="session")
def url_list(photo_server, tmp_path_factory) -> Path:
    """A list of `url,caption`: many pictures and two that fail, one in the first shard and one in the last."""
    pictures = sorted((ROOT / "source_data" / "pictures").glob("*.jpg"))[:PICTURES]
    rows = [(f"{photo_server.url}/pictures/{p.name}", p.with_suffix(".txt").read_text().strip()) for p in pictures]
    missing, page = ((f"{photo_server.url}/{path}", "no picture") for path in FAILING)
    path = tmp_path_factory.mktemp("list") / "urls.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("url", "caption"), *rows[:20], missing, *rows[20:], page])
    return path


@pytest.fixture(scope="session")
def img2datasets_folder(url_list, tmp_path_factory) -> Path:
    """What img2dataset makes of the list: two shards, in the order in which downloads ended."""
    folder = tmp_path_factory.mktemp("img2dataset") / "set"
    python = peer_python(IMG2DATASET)
    arguments = {
        "url_list": url_list,
        "input_format": "csv",
        "url_col": "url",
        "caption_col": "caption",
        "output_folder": folder,
        "output_format": "webdataset",
        "image_size": 128,
        "resize_mode": "keep_ratio",
        "number_sample_per_shard": SHARD_ROWS,
        "processes_count": 1,
        "thread_count": 8,
        "timeout": 5,
    }
    words = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    run_python(python, python.with_name("img2dataset"), *words, NO_ALBUMENTATIONS_UPDATE="1")
    return folder


@pytest.fixture(scope="session")
def our_folder(url_list, tmp_path_factory) -> Path:
    """What we make of the list, by the program that a user would run."""
    folder = tmp_path_factory.mktemp("ours") / "set"
    words = f"--caption-col caption --image-size 128 --resize-mode keep_ratio --number-sample-per-shard {SHARD_ROWS}"
    network = "--allow-private 127.0.0.0/8 --timeout 5"
    program = ROOT / "create" / "create_webdataset.py"
    run_python(sys.executable, program, "--source", url_list, "--output", folder, *words.split(), *network.split())
    return folder
