"""What lies beside the pictures of a folder."""

import io
import json
import tarfile

import pytest
from PIL import Image

from tarloom.create.job import CreateJob
from tarloom.engines.local import LocalEngine
from tests.create.helpers import configuration, create, rows


@pytest.fixture
def folder(tmp_path):
    """Two pictures; the first has a caption."""
    made = io.BytesIO()
    Image.new("RGB", (8, 8)).save(made, "JPEG")
    source = tmp_path / "pictures"
    source.mkdir()
    for name in ("a", "b"):
        (source / f"{name}.jpg").write_bytes(made.getvalue())
    (source / "a.txt").write_text("of a file")
    return source


@pytest.mark.parametrize(
    ("said", "caption"),
    [
        ('"a cat"', "a cat"),
        ('["a", "ä"]', '["a", "ä"]'),
        ("5", "5"),
        ("null", None),
        ('""', ""),
        ('"\\ud83d half"', "? half"),
    ],
)
def test_a_caption_in_the_json_counts_where_there_is_no_txt(tmp_path, folder, said, caption):
    for name in ("a", "b"):
        (folder / f"{name}.json").write_text(f'{{"caption": {said}}}')
    create(folder, tmp_path / "out")
    assert [row["caption"] for row in rows(tmp_path / "out")] == ["of a file", caption]
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        assert json.load(tar.extractfile("b.json"))["caption"] == caption
        assert ("b.txt" in tar.getnames()) == (caption is not None)


def test_without_any_txt_a_caption_stays_in_the_json_alone(tmp_path, folder):
    (folder / "a.txt").unlink()
    (folder / "b.json").write_text('{"caption": ["a", "b"]}')
    create(folder, tmp_path / "out")
    assert "caption" not in rows(tmp_path / "out")[1]
    with tarfile.open(tmp_path / "out" / "00000.tar") as tar:
        assert json.load(tar.extractfile("b.json"))["caption"] == ["a", "b"]


def test_a_folder_that_is_lost_for_a_while_costs_no_row(tmp_path, folder):
    job = CreateJob(configuration(folder, tmp_path / "out", max_shard_retry=0), LocalEngine(1))
    job.prepare()
    folder.rename(tmp_path / "elsewhere")
    assert len(list(job)) == 1
    assert "pictures: is not there, or empty" in job.summary().failed_shards["00000"]
    (tmp_path / "elsewhere").rename(folder)
    assert create(folder, tmp_path / "out").successes == 2


def test_a_picture_that_is_gone_costs_its_row(tmp_path, folder):
    job = CreateJob(configuration(folder, tmp_path / "out"), LocalEngine(1))
    job.prepare()
    (folder / "b.jpg").unlink()
    assert len(list(job)) == 1
    assert job.summary().failed_by_error == {"unreadable": 1}
