"""Resizing files, one or a folder, in place or elsewhere: whatever happens, each is an original or a finished one."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tarloom.engines.local import LocalEngine
from tarloom.errors import EngineError, UsageError
from tarloom.format.storage import LocalStorage
from tarloom.process.resize.job import ResizeJob, ResizeSummary, chunks, planned
from tarloom.process.resize.plan import ResizeConfig, parse_box, sizes
from tests.create.helpers import encoded, photo
from tests.source_tree import ROOT

PROGRAM = ROOT / "process" / "resize_images.py"
NAMES = ("a.jpg", "b.JPEG", "c.png", "holiday/2024/d.webp", "holiday/e.jpg")
KINDS = {"png": "PNG", "webp": "WEBP"}
COPIES = 1000
"""So many that a run is not over before a test that gets no CPU for a while kills it."""


@pytest.fixture
def folder(tmp_path) -> Path:
    found = tmp_path / "photos"
    for name in NAMES:
        path = found / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(photo(120, 200), KINDS.get(name.rpartition(".")[2], "JPEG")))
    (found / "notes.txt").write_text("no picture")
    return found


def resize(**options) -> ResizeSummary:
    job = ResizeJob(ResizeConfig(**options))
    job.prepare()
    for _ in job.run(LocalEngine(1)):
        pass
    return job.summary()


def resize_all(folder: Path, **options) -> ResizeSummary:
    return resize(batch=True, input_dir=str(folder), **options)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def looked_at(path: Path) -> tuple[str | None, tuple[int, int]]:
    with Image.open(path) as image:
        return image.format, image.size


def test_one_picture_goes_where_it_is_told(folder, tmp_path):
    before = files(folder)
    summary = resize(input=str(folder / "a.jpg"), output=str(tmp_path / "small.png"), resize="50x50")
    assert looked_at(tmp_path / "small.png") == ("PNG", (50, 30))
    assert (summary.processed, summary.failed) == (1, 0)
    assert files(folder) == before


def test_a_folder_keeps_its_sub_folders_and_its_originals(folder, tmp_path):
    before = files(folder)
    summary = resize_all(folder, output_dir=str(tmp_path / "small"), resize="100x100", chunks=2)
    assert files(folder) == before
    assert sorted(files(tmp_path / "small")) == sorted(NAMES)
    assert all(looked_at(tmp_path / "small" / name)[1] == (100, 60) for name in NAMES)
    assert (summary.processed, summary.failed, summary.unchanged) == (5, 0, 0)
    assert summary.bytes_in == sum(len(data) for name, data in before.items() if name != "notes.txt")


def test_in_place_every_picture_becomes_small_and_again_changes_nothing(folder):
    resize_all(folder, resize="100")
    small = files(folder)
    assert sorted(small) == sorted((*NAMES, "notes.txt"))
    assert all(looked_at(folder / name)[1] == (100, 60) for name in NAMES)
    assert resize_all(folder, resize="100").unchanged == 5
    assert files(folder) == small


def test_in_place_another_format_takes_the_originals_place(folder):
    resize_all(folder, format="webp", quality=50)
    assert sorted(files(folder)) == sorted(["a.webp", "b.webp", "c.webp", *NAMES[3:4], "holiday/e.webp", "notes.txt"])
    assert all(looked_at(path)[0] == "WEBP" for path in folder.rglob("*.webp"))


@pytest.mark.parametrize("options", [{"format": "webp"}, {"resize": "100"}, {"quality": 50}])
def test_in_place_a_chunk_that_is_tried_again_leaves_finished_pictures_as_they_are(folder, options):
    resizer, moves = planned(ResizeConfig(batch=True, input_dir=str(folder), **options))
    work = resizer()
    work(moves[:3])  # and its worker died
    finished = files(folder)
    report = work(moves)
    assert (report.processed, report.failed) == (5, {})
    assert report.bytes_out == sum(len(data) for name, data in files(folder).items() if name != "notes.txt")
    untouched = {move.target for move in moves[:3]}
    assert {name: data for name, data in files(folder).items() if name in untouched} == {
        name: data for name, data in finished.items() if name in untouched
    }


def test_in_place_nothing_that_links_lead_to_is_changed(folder, tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    (away / "kept.jpg").write_bytes(encoded(photo(90, 60)))
    (folder / "linked").symlink_to(away)
    (folder / "linked.jpg").symlink_to(away / "kept.jpg")
    before, count = files(away), resize_all(folder, resize="30x30", format="webp").processed
    assert files(away) == before
    assert resize_all(folder, output_dir=str(tmp_path / "copies"), resize="20").processed == count + 2


def test_less_quality_takes_less_room(folder, tmp_path):
    sizes = [
        resize(input=str(folder / "a.jpg"), output=str(tmp_path / "x.jpg"), quality=quality).bytes_out
        for quality in (30, 60, 90)
    ]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3


@pytest.mark.parametrize(
    ("mode", "options", "size"),
    [
        ("fit", {}, (100, 60)),
        ("fill", {}, (100, 100)),
        ("exact", {}, (100, 100)),
        ("fit", {"resize": "1000x1000", "resize_only_if_bigger": True}, (200, 120)),
        ("fit", {"resize": "400x400"}, (400, 240)),
    ],
)
def test_the_mode_says_how_the_size_is_meant(folder, tmp_path, mode, options, size):
    options = {"resize": "100x100"} | options
    resize(input=str(folder / "a.jpg"), output=str(tmp_path / "x.jpg"), mode=mode, **options)
    assert looked_at(tmp_path / "x.jpg")[1] == size


def test_what_is_filled_is_the_middle(tmp_path):
    thirds = np.zeros((30, 90, 3), np.uint8)
    thirds[:, 30:60] = 255
    Image.fromarray(thirds).save(tmp_path / "in.png")
    resize(input=str(tmp_path / "in.png"), output=str(tmp_path / "out.png"), resize="30x30", mode="fill")
    with Image.open(tmp_path / "out.png") as image:
        assert (np.asarray(image)[:, 1:-1] == 255).all()


@given(
    original=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    box=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
)
def test_what_fits_touches_its_box_and_what_fills_covers_it(original, box):
    fit, _ = sizes(original, box, "fit")
    fill, cut = sizes(original, box, "fill")
    assert max(fit[0] - box[0], fit[1] - box[1]) == 0
    assert min(fill[0] - box[0], fill[1] - box[1]) == 0
    assert cut == box
    assert sizes(original, box, "exact") == (box, box)


def test_a_broken_picture_fails_by_name_and_keeps_its_bytes(folder):
    broken = (folder / "a.jpg").read_bytes()[:-500]
    (folder / "broken.jpg").write_bytes(broken)
    (folder / "page.png").write_text("<html>")
    summary = resize_all(folder, resize="50")
    assert (summary.processed, summary.failed) == (5, 2)
    assert summary.failed_by_error == {"not_an_image": 1, "truncated": 1}
    assert set(summary.failures) == {"broken.jpg", "page.png"}
    assert (folder / "broken.jpg").read_bytes() == broken


def test_a_full_disk_ends_the_run_with_what_is_done_and_every_original_left(folder):
    """Files of more than 4000 bytes stand for one: the third picture would be such a file."""
    noise = np.random.default_rng(1).integers(0, 255, (99, 99, 3), np.uint8)
    (folder / "c.png").write_bytes(encoded(Image.fromarray(noise), "PNG"))
    before, limit = files(folder), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limit[1]))
    try:
        with pytest.raises(
            EngineError, match=r"c\.png: File too large; check .* free space; then run the same command"
        ):
            resize_all(folder, resize="60")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    after = files(folder)
    assert [name for name in before if after[name] != before[name]] == ["a.jpg", "b.JPEG"]
    assert after.keys() == before.keys()


def test_a_folder_that_cannot_be_made_costs_its_own_pictures_alone(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "holiday").write_text("a file where a folder should be")
    summary = resize_all(folder, output_dir=str(tmp_path / "out"), resize="50")
    assert (summary.processed, summary.failed_by_error) == (3, {"unwritten": 2})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "--input"),
        ({"input": "{folder}/absent.jpg"}, "no such file"),
        ({"input": "{folder}/a.jpg", "batch": True}, "--batch takes"),
        ({"batch": True}, "--input-dir"),
        ({"input": "{folder}/holiday"}, "is a folder; say --batch --input-dir"),
        ({"input": "{folder}/a.jpg", "output": "{folder}/holiday", "format": "png"}, "is a folder; name the new file"),
        ({"input": "{folder}/a.jpg", "output": "{folder}.pipe", "format": "png"}, "is a device or a pipe"),
        ({"batch": True, "input_dir": "{folder}/none"}, "no such folder"),
        ({"batch": True, "input_dir": "{folder}/notes.txt"}, "no such folder"),
        ({"batch": True, "input_dir": "{folder}", "output_dir": "{folder}.txt"}, "cannot be written"),
        ({"batch": True, "input_dir": "{folder}", "output_dir": "{folder}/small"}, "inside"),
        ({"batch": True, "input_dir": "{folder}", "output_dir": "{folder}/."}, "in place"),
        ({"batch": True, "input_dir": "{folder}", "output_dir": "{folder}/holiday/.."}, "in place"),
        ({"input": "{folder}/a.jpg", "resize": "800 by 600"}, "800x600"),
        ({"input": "{folder}/a.jpg", "resize": "0x5"}, "800x600"),
        ({"input": "{folder}/a.jpg", "quality": 0}, "quality"),
        ({"input": "{folder}/a.jpg", "output": "{folder}/a.gif"}, "--format"),
        ({"batch": True, "input_dir": "{folder}", "chunks": 0}, "chunks"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_changed(folder, options, words):
    Path(f"{folder}.txt").write_text("a file where a folder should be")
    os.mkfifo(f"{folder}.pipe")
    before = files(folder)
    options = {
        name: value.format(folder=folder) if isinstance(value, str) else value for name, value in options.items()
    }
    with pytest.raises(UsageError, match=words):
        planned(ResizeConfig(**options))
    assert files(folder) == before


def test_two_pictures_that_would_become_one_are_refused(folder):
    (folder / "a.png").write_bytes(encoded(photo(20, 20), "PNG"))
    with pytest.raises(UsageError, match=r"a\.jpg and a\.png would both become a\.webp"):
        resize_all(folder, format="webp")


def test_in_place_one_picture_of_another_format_takes_no_other_pictures_place(folder):
    (folder / "a.png").write_bytes(encoded(photo(20, 20), "PNG"))
    before = files(folder)
    with pytest.raises(UsageError, match=r"a\.png would become a\.jpg, which is there already"):
        resize(input=str(folder / "a.png"), format="jpg")
    assert files(folder) == before


def test_in_place_no_picture_of_a_folder_takes_a_links_place(folder, tmp_path):
    (tmp_path / "away.webp").write_bytes(encoded(photo(20, 20), "WEBP"))
    (folder / "a.webp").symlink_to(tmp_path / "away.webp")
    with pytest.raises(UsageError, match=r"a\.jpg would take the place of the link a\.webp"):
        resize_all(folder, format="webp")
    assert (folder / "a.webp").is_symlink()


def test_an_original_that_a_killed_run_in_place_has_left_is_named(folder, monkeypatch):
    (folder / "z.bmp").write_bytes(encoded(photo(20, 20), "BMP"))
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "delete", interrupt)
        with pytest.raises(KeyboardInterrupt):
            resize_all(folder, resize="50")
    with pytest.raises(UsageError, match=r"one of them, such as z\.bmp where a run in place was killed"):
        resize_all(folder, resize="50")
    (folder / "z.bmp").unlink()
    assert resize_all(folder, resize="50").processed == len(NAMES) + 1


def interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_sizes_are_read_as_they_are_written():
    assert parse_box("800x600") == (800, 600)
    assert parse_box("256") == (256, 256)


@given(st.integers(0, 300), st.integers(1, 50))
def test_chunks_hold_every_picture_once(count, pieces):
    moves = list(range(count))
    found = list(chunks(moves, pieces))
    assert [move for chunk in found for move in chunk] == moves
    assert len(found) <= pieces


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, PROGRAM, *options], capture_output=True, text=True, timeout=600)


def test_the_program_counts_and_says_by_its_exit_code_if_all_went_well(folder, tmp_path):
    options = [
        "--batch",
        "--input-dir",
        str(folder),
        "--output-dir",
        str(tmp_path / "out"),
        "--engine",
        "local",
        "--json",
    ]
    ended = run(*options, "--resize", "64x64", "--num-workers", "2")
    assert ended.returncode == 0, ended.stderr
    (folder / "broken.jpg").write_bytes(b"\xff\xd8broken")
    ended = run(*options, "--resize", "64x64")
    assert ended.returncode == 3
    assert json.loads(ended.stdout.splitlines()[-1])["failed"] == 1
    assert run(*options, "--resize", "64x64", "--max-failed", "1").returncode == 0
    assert run(*options, "--resize", "big").returncode == 2


def test_a_killed_run_leaves_originals_and_finished_ones(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    original = encoded(photo(900, 1200))
    for number in range(COPIES):
        (folder / f"{number:03d}.jpg").write_bytes(original)
    started = subprocess.Popen(
        [sys.executable, PROGRAM, "--batch", "--input-dir", folder, "--resize", "60", "--engine", "local"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while len((folder / "020.jpg").read_bytes()) == len(original) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    found = files(folder)
    done = [name for name, data in found.items() if not name.startswith(".tmp-") and data != original]
    assert 20 <= len(done) < COPIES
    assert all(looked_at(folder / name)[1] == (60, 45) for name in done)
    resize_all(folder, resize="60")
    assert len(set(files(folder).values())) == 1
    assert len(files(folder)) == COPIES


@pytest.mark.slow
def test_ray_resizes_a_folder_and_says_that_it_works(folder, tmp_path):
    ended = run(
        "--batch", "--input-dir", str(folder), "--output-dir", str(tmp_path / "out"), "--resize", "50", "--chunks", "3"
    )
    assert ended.returncode == 0, ended.stderr
    alone = tmp_path / "alone"
    resize_all(folder, output_dir=str(alone), resize="50")
    assert files(tmp_path / "out") == files(alone)
    checked = run("--check", "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout.splitlines()[-1])["cpus"] >= 1
