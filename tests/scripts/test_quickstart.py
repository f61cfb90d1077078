"""The quickstart ends well only where all is well."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from scripts.quickstart_checks import find_problems
from source_data.serve import HERE, PORT, PhotoServer
from tarloom.create.config import CreateConfig, ImageOptions, ListOptions, ShardOptions, WebOptions
from tarloom.create.job import CreateJob
from tarloom.engines.local import LocalEngine
from tarloom.format.storage import open_storage
from tests.processes import are_gone, descendants, wait_for
from tests.report.conftest import add_sidecar, vectors_of

ROOT = HERE.parent
ROWS, SAMPLES = 40, 38
"""The list's first rows: among them an address that is not found and a page that is no picture."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What a quickstart leaves, made of the first addresses of the list: folder, and what the programs said."""
    folder = tmp_path_factory.mktemp("quickstart")
    with PhotoServer() as server:
        with open(HERE / "urls.csv", newline="", encoding="utf-8") as file:
            rows = [line.replace(f"http://127.0.0.1:{PORT}", server.url) for line in file][: ROWS + 1]
        (folder / "urls.csv").write_text("".join(rows))
        options = CreateConfig(
            source=str(folder / "urls.csv"),
            output=str(folder / "shards"),
            lists=ListOptions(caption_col="caption"),
            images=ImageOptions(image_size=32),
            web=WebOptions(allow_private=("127.0.0.0/8",)),
            sharding=ShardOptions(number_sample_per_shard=ROWS),
        )
        job = CreateJob(options, LocalEngine(1))
        job.prepare()
        list(job)
    captions = [row["caption"] for row in csv.DictReader(rows) if row["expected"] == "success"]
    storage = open_storage(folder / "shards")
    add_sidecar(storage, "00000", "caption", {"text": pa.array(captions)})
    add_sidecar(storage, "00000", "clip", {"embedding": vectors_of("00000", SAMPLES)})
    stages = {name: {"rows": SAMPLES, "successes": SAMPLES} for name in ("create", "caption", "embed")}
    reads = {f"read: {name}": {"rows": SAMPLES, "digest": "d1"} for name in ("a", "b")}
    return folder, stages | reads


def problems_of(folder: Path, facts, *, longest_shard: float = 60) -> list[str]:
    return find_problems(urls=folder / "urls.csv", shards=folder / "shards", facts=facts, longest_shard=longest_shard)


def test_a_sound_end_has_no_problems(finished):
    assert problems_of(*finished) == []


@pytest.mark.parametrize(
    ("step", "change", "complaint"),
    [
        ("read: b", {"digest": "d2"}, "the readers' digests differ"),
        ("read: b", {"rows": 37}, "read: b: 37, but the shards hold 38 samples"),
        ("embed", {"successes": 30}, "successes of embed: 30"),
        ("create", {"successes": 39}, "successes in the metadata: 39"),
    ],
)
def test_programs_that_disagree_are_found(finished, step, change, complaint):
    folder, facts = finished
    facts = {**facts, step: {**facts[step], **change}}
    assert [complaint in problem for problem in problems_of(folder, facts)] == [True]


def test_an_address_with_another_end_than_expected_is_found(finished, tmp_path):
    folder, facts = finished
    (tmp_path / "shards").symlink_to(folder / "shards")
    text = (folder / "urls.csv").read_text()
    (tmp_path / "urls.csv").write_text(text.replace("http_404", "http_410").replace("not_an_image", "success"))
    found = problems_of(tmp_path, facts)
    assert len(found) == 2
    assert "row 18: " in found[0]
    assert "should become http_410" in found[0]
    (tmp_path / "urls.csv").write_text(text + "http://127.0.0.1/more.jpg,,,,success\n")
    assert problems_of(tmp_path, facts) == [f"{ROWS + 1} addresses were given, but the metadata has {ROWS} rows"]


def test_a_shard_that_took_longer_than_its_rows_may_is_found(finished):
    assert "deadlines" in problems_of(*finished, longest_shard=0)[0]


def test_a_folder_that_is_not_the_quickstarts_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    command = [sys.executable, str(ROOT / "scripts" / "quickstart.py"), "--output", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "500"})
    assert ended.returncode == 2
    assert "was not made by the quickstart" in ended.stderr
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_one_that_is_asked_to_stop_leaves_nothing_running(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "quickstart.py"), "--output", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: process.poll() is not None or descendants("create_with_ray", process.pid))
    time.sleep(0.2)  # it may only just have begun
    begun = descendants("python", process.pid)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert (process.returncode, "interrupted" in said) == (130, True)
    assert len(begun) >= 2  # a server, and a program
    assert are_gone(begun)
