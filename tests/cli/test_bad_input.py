"""What a user sees who types something wrong: one clear line, the right exit code, no traceback, nothing started."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PICTURES = str(REPOSITORY / "source_data" / "pictures")
MODELS = REPOSITORY / "source_data" / "models"


def run(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(REPOSITORY / program), *options]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


def tarloom(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tarloom", *words], capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad") / "shards"
    made = run("create/create_webdataset.py", "--source", PICTURES, "--output", str(folder))
    assert made.returncode == 0, made.stderr
    return folder


def assert_one_clear_line(ended: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert "Traceback" not in ended.stdout + ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    for word in words:
        assert word in ended.stderr
    assert ended.returncode == code
    assert ended.stdout == ""


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("{tmp}/absent", [], ["absent"]),
        ("", [], ["source is empty"]),
        ("{tmp}/empty", [], ["empty"]),
        ("{tmp}/empty.csv", [], ["empty.csv"]),
        ("{tmp}/list.csv", ["--url-col", "link"], ["link", "url"]),
        ("{tmp}/list.csv", ["--caption-col", "caption"], ["caption", "url"]),
        ("{tmp}/list.csv", ["--save-additional-columns", "licence"], ["licence"]),
        ("{tmp}/list.csv", ["--number-sample-per-shard", "0"], ["number"]),
        ("{tmp}/list.csv", ["--image-size", "-3"], ["image"]),
        ("{tmp}/list.csv", ["--image-size", "big"], ["--image-size", "big"]),
        ("{tmp}/list.csv", ["--imagesize", "64"], ["--imagesize"]),
        ("{tmp}/list.csv", ["--resize-mode", "stretch"], ["--resize-mode", "stretch"]),
        ("{tmp}/list.csv", ["--encode-quality", "101"], ["quality"]),
        ("{tmp}/list.csv", ["--shards", "5:2"], ["5:2"]),
        ("{tmp}/list.csv", ["--allow-private", "my-network"], ["my-network"]),
        ("{tmp}/list.csv", ["--num-workers", "0"], ["0"]),
        ("{tmp}/list.csv", ["--max-failed", "-1"], ["max_failed must be at least 0"]),
        ("{tmp}/list.csv", ["--engine", "ray-data"], ["ray-data", "give --engine ray"]),
        ("ftp://example.com/list.csv", [], ["ftp"]),
    ],
)
def test_creation_refuses_what_cannot_work_before_it_starts(tmp_path, source, options, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "list.csv").write_text("url\nhttp://127.0.0.1:9/a.jpg\n")
    output = tmp_path / "out"
    ended = run(
        "create/create_webdataset.py", "--source", source.format(tmp=tmp_path), "--output", str(output), *options
    )
    assert_one_clear_line(ended, 2, *words)
    assert not output.exists()


def test_creation_refuses_an_output_that_cannot_be_written():
    ended = run("create/create_webdataset.py", "--source", PICTURES, "--output", "/proc/no/shards")
    assert_one_clear_line(ended, 2, "/proc/no/shards")


@pytest.mark.parametrize(
    "words",
    [
        ["curate", "{shards}", "--where", "width > 1"],
        ["curate", "{shards}", "--keep-if", "width > 1"],
        ["repair", "{shards}"],
        ["report", "{shards}"],
        ["images", "--source", "{list}", "--stages", "hash"],
    ],
)
def test_an_output_that_is_a_file_is_wrong_usage_whatever_the_command(shards, tmp_path, words):
    (tmp_path / "list.csv").write_text("url\nhttp://127.0.0.1:9/a.jpg\n")
    (tmp_path / "file").write_text("mine")
    given = [word.format(shards=shards, list=tmp_path / "list.csv") for word in words]
    ended = tarloom(*given, "--output", str(tmp_path / "file"))
    assert_one_clear_line(ended, 2, f"output {tmp_path}/file cannot be written", "a file lies where a folder should be")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_shard_that_cannot_be_made_has_its_line_in_the_summary_and_gives_exit_code_3(tmp_path):
    options = ["--source", PICTURES, "--output", str(tmp_path / "out"), "--number-sample-per-shard", "200"]
    assert run("create/create_webdataset.py", *options, "--plan-only").returncode == 0
    (tmp_path / "out" / "00001.tar").mkdir()
    ended = run("create/create_webdataset.py", *options)
    assert (ended.returncode, ended.stderr) == (3, "")
    assert "all but 1 shard; run the same command again" in ended.stdout.splitlines()[0]
    assert ended.stdout.splitlines()[-1].startswith("  00001: ")


def test_creation_refuses_other_options_over_a_finished_output_and_names_them(shards):
    options = ["--source", PICTURES, "--output", str(shards), "--image-size", "64"]
    assert_one_clear_line(run("create/create_webdataset.py", *options), 2, "image_size", "256", "64")


@pytest.mark.parametrize(
    "program",
    [
        "read/read_webdataset.py",
        "read/read_with_ray_actor.py",
        "read/read_with_ray_data.py",
        "read/read_with_ray_data_webdataset.py",
        "read/read_with_spark.py",
        "read/read_with_torch.py",
    ],
)
def test_every_reader_refuses_a_folder_without_shards(program, tmp_path):
    assert_one_clear_line(run(program, "--path", str(tmp_path / "absent")), 2, "absent")


@pytest.mark.parametrize("program", ["process/caption_with_vllm.py", "process/embed_with_clip.py"])
@pytest.mark.parametrize("model", ["absent/model", "."])
def test_stages_refuse_a_model_that_is_none_before_they_start(program, model, shards):
    assert_one_clear_line(run(program, "--path", str(shards), "--model", model), 2, "model", model)
    assert not list(shards.glob("*.*.parquet"))


@pytest.mark.parametrize("program", ["process/caption_with_vllm.py", "process/embed_with_clip.py"])
def test_stages_refuse_a_folder_without_shards(program, tmp_path):
    model = MODELS / ("captioner" if "caption" in program else "clip")
    ended = run(program, "--path", str(tmp_path / "absent"), "--model", str(model))
    assert_one_clear_line(ended, 2, "absent")


def test_an_unknown_command_is_named_with_those_there_are():
    ended = subprocess.run([sys.executable, "-m", "tarloom.cli", "craete"], capture_output=True, text=True)
    assert_one_clear_line(ended, 2, "craete", "create")


def test_damage_is_found_named_and_gives_exit_code_3(shards, tmp_path):
    tar = (tmp_path / "damaged" / "00000.tar").absolute()
    tar.parent.mkdir()
    whole = (shards / "00000.tar").read_bytes()
    tar.write_bytes(whole[: len(whole) // 2])
    ended = subprocess.run(
        [sys.executable, "-m", "tarloom.cli", "verify", "--path", str(tar.parent)], capture_output=True, text=True
    )
    assert ended.returncode == 3
    assert "00000.tar" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


def test_reading_a_cut_shard_stops_with_one_line_that_names_it(shards, tmp_path):
    whole = (shards / "00000.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    ended = run("read/read_webdataset.py", "--path", str(tmp_path))
    assert_one_clear_line(ended, 1, "cut.tar")


@pytest.mark.parametrize("words", ["create --help", "info --path {shards}"])
def test_a_reader_of_the_output_who_leaves_early_is_no_error(shards, words):
    command = f"{sys.executable} -m tarloom.cli {words.format(shards=shards)} | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--path", "absent"], "absent: no such folder"),
        (["--path", ".", "--checkpoint", "absent/a.pt"], "absent/a.pt: its"),
    ],
)
def test_training_refuses_what_cannot_work_before_it_starts(options, word):
    assert_one_clear_line(run("read/read_with_torch.py", "--train", *options), 2, word)


def test_an_interrupted_training_says_in_one_line_how_to_go_on(monkeypatch, capsys, tmp_path):
    program = runpy.run_path(str(REPOSITORY / "read" / "read_with_torch.py"))

    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setitem(program["main"].__globals__, "train", interrupted)
    monkeypatch.setattr(sys, "argv", ["read_with_torch.py", "--train", "--path", str(tmp_path)])
    assert program["main"]() == 130
    said = capsys.readouterr().err
    assert said == "read_with_torch.py: interrupted; the same command goes on from the last checkpoint\n"


@pytest.mark.parametrize("words", ["create --source x --output y", "query {shards} SELECT"])
def test_a_working_folder_that_was_deleted_is_told(tmp_path, shards, words):
    started = f"cd {tmp_path} && rmdir {tmp_path} && exec {sys.executable} -m tarloom {words.format(shards=shards)}"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(["sh", "-c", started], env=environment, capture_output=True, text=True, timeout=120)
    assert_one_clear_line(ended, 2, "has been deleted")
