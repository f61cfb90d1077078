"""What processing took and costs, and estimates of it, as they are typed."""

import json

import pytest

from tarloom.cli import run
from tests.process.shards import scene_shards, sidecars

pytestmark = pytest.mark.usefixtures("program_here")


def test_an_estimate_keeps_nothing_and_speaks_of_all_that_is_to_be_done(tmp_path, capsys):
    shards = scene_shards(tmp_path / "shards", shards=4, rows=30)
    words = ["--path", str(shards), "--stages", "hash,quality", "--estimate", "40", "--price-per-hour", "3", "--json"]
    assert run("process", *words) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["sampled"], told["remaining"]) == (40, 120)
    assert told["images_per_second"] > 0
    assert told["price"] >= 0
    assert {"read", "decode", "hash", "quality"} <= set(told["seconds_in"])
    assert sidecars(shards, "hash") == sidecars(shards, "quality") == {}
    assert not list(shards.glob("_tarloom/parts/*"))


def test_a_run_says_what_it_took_stage_by_stage(tmp_path, capsys):
    shards = scene_shards(tmp_path / "shards", shards=2, rows=30)
    words = ["--path", str(shards), "--stages", "hash,quality", "--json"]
    assert run("process", *words, "--price-per-hour", "3") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["images"] == 60
    assert told["hash_images_per_second"] > 0
    assert told["quality_images_per_second"] > 0
    assert told["price_per_million"] > 0
    assert run("process", *words) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (again["skipped"], again["images"]) == (2, 0)
    assert "price" not in again


@pytest.mark.parametrize("command", ["generate", "images", "batch"])
def test_a_command_that_cannot_estimate_refuses_the_option(command, capsys):
    assert run(command, "--estimate", "40") == 2
    assert "Unrecognized options: --estimate" in capsys.readouterr().err
