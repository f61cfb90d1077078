"""`tarloom process`: stages and their options as they are typed, and whole runs."""

import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

import tarloom
from tarloom.cli.parse import parse
from tarloom.cli.process import Process, with_stages
from tarloom.errors import UsageError
from tarloom.process.caption.stage import CaptionStage
from tarloom.process.embed.stage import EmbedStage
from tarloom.process.stages.hash import HashStage
from tests.process.shards import ROOT, scene_shards, sidecars, write_shard


def typed(*words, **defaults):
    """The command as it is parsed from these words."""
    return parse(with_stages(Process, words, defaults), words, prog="tarloom process", defaults=defaults)


def test_each_stage_has_its_options_under_its_name():
    command = typed(
        "d", "--stages", "hash,long=caption,clip", "--long.model", "m", "--long.max_tokens", "7", "--clip.model=c"
    )
    assert command.process.path == "d"
    assert command.chosen == {
        "hash": HashStage(),
        "long": CaptionStage(model="m", max_tokens=7),
        "clip": EmbedStage(model="c"),
    }
    assert list(command.chosen) == ["hash", "long", "clip"]


def test_a_stage_may_be_there_twice_with_options_of_its_own():
    command = typed("--path", "d", "--stages=a-1=clip,b_2=clip", "--a-1.model", "x", "--b_2.model", "y")
    assert {name: stage.model for name, stage in command.chosen.items()} == {"a-1": "x", "b_2": "y"}


def test_a_program_may_name_stages_and_others_replace_them():
    assert list(typed("d", stages="hash,quality").chosen) == ["hash", "quality"]
    assert list(typed("d", "--stages", "quality", stages="hash").chosen) == ["quality"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["d"], "--stages"),
        (["d", "--stages"], "--stages"),
        (["d", "--stages", "hsah"], "there is none of this name"),
        (["d", "--stages", "hash", "--clip.model", "x"], r"--clip\.model"),
        (["d", "--stages", "hash", "--model", "x"], "--model"),
        (["--stages", "hash"], "--path"),
    ],
)
def test_what_is_typed_wrongly_is_named(words, message):
    with pytest.raises(UsageError, match=message):
        typed(*words)


def test_modules_where_the_user_is_are_looked_for_last_and_only_where_one_is_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mystage.py").write_text("from tarloom.process.stages.hash import HashStage as Mine")
    typed("d", "--stages", "hash")
    assert str(tmp_path) not in sys.path
    assert list(typed("d", "--stages", "m=mystage:Mine").chosen) == ["m"]
    assert sys.path[-1] == str(tmp_path)


def test_a_working_folder_that_is_gone_has_no_modules(monkeypatch, tmp_path):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match="gonestage"):
        typed("d", "--stages", "gonestage:Mine")


def test_the_help_shows_the_options_of_the_stages_that_are_named(capsys):
    with pytest.raises(SystemExit):
        typed("--stages", "quality,own=tarloom.process.stages.hash:HashStage", "--help")
    shown = capsys.readouterr().out
    assert "--quality.blank-contrast" in shown
    assert "--own.batch-size" in shown
    assert "Pictures under way at a time" in shown  # an option of the class that the stages are made from
    assert "--caption" not in shown


@pytest.fixture
def shards(tmp_path):
    return scene_shards(tmp_path / "shards", shards=2, rows=8)


def command(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "tarloom.cli", "process", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_several_stages_and_ones_own_run_in_worker_processes_and_say_what_they_did(shards, engine):
    words = ["--stages", "hash,look=quality,own_stage:Warmth", "--look.blank-contrast", "200", "--warmth.darkest", "9"]
    run = command(str(shards), *words, "--engine", engine, "--num-workers", "2", "--json", cwd=ROOT / "docs")
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout.splitlines()[-1])
    assert (said["rows"], said["successes"], said["shards"]) == (3 * 16, 3 * 13, 2)
    assert all(len(sidecars(shards, name)) == 2 for name in ("hash", "look", "warmth"))
    (blank,) = set(pq.read_table(shards / "00001.look.parquet").column("blank").to_pylist())
    assert blank is True


def test_the_summary_says_how_many_samples_agree(shards):
    agree = ["--agree-if", "hash.sha256 >= '8'", "--agree-by", "hash.status"]
    run = command(str(shards), "--stages", "hash", *agree, "--json", cwd=ROOT)
    assert run.returncode == 0, run.stderr
    hashes = tarloom.open(shards).table("hash.sha256").column("hash.sha256").drop_null().to_pylist()
    told = json.loads(run.stdout.splitlines()[-1])
    assert told["agreement"]["agree"] == sum(digest >= "8" for digest in hashes)
    assert (told["agreement"]["samples"], told["agreement"]["unknown"]) == (16, 16 - len(hashes))
    assert sum(part["samples"] for part in told["agreement_by"].values()) == 16
    assert "agree if" in run.stdout


def test_where_a_shard_failed_the_summary_says_so_and_nothing_of_agreement(tmp_path):
    write_shard(tmp_path / "a.tar", [("0", {"txt": b"fine"})])
    write_shard(tmp_path / "b.tar", [("1", {"txt": b"boom"})])
    words = ["--stages", "tests.process.shards:LengthStage", "--agree-if", "length.length > 3", "--json"]
    run = command(str(tmp_path), *words, cwd=ROOT)
    assert run.returncode == 3, run.stderr
    told = json.loads(run.stdout.splitlines()[-1])
    assert (list(told["failed_shards"]), "agreement" in told) == (["b"], False)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [(["--agree-if", "hash.sha256 >="], "agree_if: "), (["--agree-if", "true", "--agree-by", "a b c"], "agree_by: ")],
)
def test_agreement_that_is_no_sql_is_refused_before_anything_is_done(shards, words, complaint):
    run = command(str(shards), "--stages", "hash", *words, cwd=ROOT)
    assert run.returncode == 2
    assert complaint in run.stderr
    assert not sidecars(shards, "hash")


def test_what_agreement_cannot_be_is_named_and_the_sidecars_stay(shards):
    run = command(str(shards), "--stages", "hash", "--agree-if", "nothing.text = txt", cwd=ROOT)
    assert run.returncode == 2
    assert "there is no column 'nothing.text'" in run.stderr
    assert "successes" in run.stdout
    assert len(sidecars(shards, "hash")) == 2
