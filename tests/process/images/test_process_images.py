"""process/process_images.py as it is typed: progress, exit codes, kills, resuming, an object store, captions."""

import json
import os
import random
import re
import signal
import subprocess
import threading
import time

import pytest

import tarloom
from tarloom.format.storage import open_storage
from tests.process.images.runs_of_images import (
    HELD_BACK_SECONDS,
    PROGRAM,
    dataset,
    facts_of,
    held_back,
    only_run,
    url_list,
    words_for,
)
from tests.process.openai_server import MODEL, OpenAIServer
from tests.processes import descendants, wait_for
from tests.source_tree import ROOT

CAPTIONER = str(ROOT / "source_data/models/captioner")


@pytest.fixture(scope="module")
def urls(server, tmp_path_factory):
    return url_list(tmp_path_factory.mktemp("urls") / "urls.csv", server.url, good=60)


@pytest.fixture(scope="module")
def whole(urls, tmp_path_factory):
    """What a run makes that nobody interrupts."""
    output = tmp_path_factory.mktemp("whole")
    facts = facts_of(words_for(urls, output))
    assert (facts["exit_code"], facts["rows"], facts["successes"], facts["shards"]) == (0, 60, 60, 6)
    assert facts["stages"]["hash"] == {"rows": 60, "successes": 60}
    return dataset(only_run(output))


def started(urls, output, *more: str) -> "subprocess.Popen[str]":
    words = [*PROGRAM, *words_for(urls, output, *more)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def whole_sidecars(output) -> int:
    return len(list(output.glob("*/*.hash.parquet")))


@pytest.mark.parametrize("sidecars", [0, 2])
def test_a_killed_run_leaves_no_process_and_goes_on_to_the_same_bytes(urls, tmp_path, whole, sidecars):
    process = started(urls, tmp_path)
    wait_for(lambda: list(tmp_path.glob("*/_tarloom")) and whole_sidecars(tmp_path) >= sidecars, seconds=240)
    time.sleep(random.uniform(0, 0.2))
    children = descendants("", process.pid)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(_is_alive(child) for child in children))
    left = {name: data for name, data in dataset(only_run(tmp_path)).items() if not re.search("/parts/|.tmp-", name)}
    assert left.items() <= whole.items()
    for mark in tmp_path.glob("_runs/*.done"):  # it was through already: as if it had been killed a moment before
        mark.unlink()
    facts_of(words_for(urls, tmp_path))
    assert dataset(only_run(tmp_path)) == whole


def test_an_interrupted_run_says_how_to_go_on_and_goes_on_by_its_folder_alone(tmp_path):
    """Its last pictures do not come before it is interrupted, so that it cannot be over."""
    output, interrupted = tmp_path / "out", threading.Event()
    with held_back(tmp_path / "urls.csv", interrupted.is_set, now=50, later=10) as urls:
        patient = ("--timeout", str(2 * HELD_BACK_SECONDS))
        process = started(urls, output, *patient)
        wait_for(lambda: whole_sidecars(output) >= 1, seconds=HELD_BACK_SECONDS)
        children = descendants("", process.pid)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=HELD_BACK_SECONDS)
        assert process.returncode == 130
        assert said.splitlines()[0] == f"the run's folder: {only_run(output)}"
        assert "run the same command again" in said.splitlines()[-1]
        assert "Traceback" not in said
        assert children
        wait_for(lambda: not any(_is_alive(child) for child in children))
        interrupted.set()
        facts_of(["--resume", str(only_run(output))])
        facts_of(words_for(urls, tmp_path / "whole", *patient))
    assert dataset(only_run(output)) == dataset(only_run(tmp_path / "whole"))
    assert whole_sidecars(output) == 6


def test_a_list_that_is_not_there_is_wrong_usage(tmp_path):
    done = subprocess.run([*PROGRAM, *words_for(tmp_path / "no.csv", tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no.csv" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_shards_that_could_not_be_processed_are_told_and_tried_again_by_the_next_run(server, tmp_path):
    """A stage that stumbles over a caption, each time in the first run."""
    captions = ["boom" if number == 12 else "fine" for number in range(20)]
    rows = [f"{server.url}/pictures/{number + 1:04d}.jpg,{caption}" for number, caption in enumerate(captions)]
    (tmp_path / "urls.csv").write_text("\n".join(["url,caption", *rows]))
    words = words_for(tmp_path / "urls.csv", tmp_path / "out", "--stages", "tests.process.shards:LengthStage")
    first = facts_of(words, code=3)
    assert first["failed_shards"].keys() == {"00001"}
    assert "boom" in first["failed_shards"]["00001"]
    assert not list((tmp_path / "out/_runs").glob("*.done"))
    (tmp_path / "boom").touch()  # where the stage looks whether it has stumbled before
    second = facts_of([*words, "--length.folder", str(tmp_path)])
    assert (second["folder"], second["skipped"]) == (first["folder"], 2)
    assert second["stages"]["length"]["successes"] == 20
    assert list((tmp_path / "out/_runs").glob("*.done"))


def test_from_a_list_in_an_object_store_to_shards_and_tables_in_it(s3, urls, whole):
    place = s3.folder("images")
    open_storage(place).write("lists/urls.csv", urls.read_bytes())
    facts = facts_of(words_for(f"{place}/lists", f"{place}/shards"))
    assert (facts["successes"], facts["stages"]["hash"]["successes"]) == (60, 60)
    storage = open_storage(facts["folder"])
    found = {entry.name: storage.read(entry.name) for entry in storage.list()}
    assert found.keys() - {"_tarloom/catalog.parquet"} == whole.keys()
    same = [name for name in whole if not name.endswith((".json", "index/00000.parquet"))]
    assert [found[name] for name in same if ".tar" in name] == [whole[name] for name in same if ".tar" in name]
    facts = facts_of(words_for(f"{place}/lists", f"{place}/tables", "--output-format", "parquet"))
    assert facts["tables"] == 1
    assert open_storage(facts["folder"]).head("part-00000.parquet") is not None


def test_captions_come_from_a_server_as_they_would_from_an_engine(urls, tmp_path):
    with OpenAIServer() as captioner:
        asked = ["--caption.model", MODEL, "--caption.prompt", "Is this {caption}?", "--price-per-hour", "36"]
        facts = facts_of(words_for(urls, tmp_path, "--caption.endpoint", captioner.url, *asked, "--max-images", "20"))
    assert (facts["rows"], facts["stages"]["caption"]["successes"]) == (20, 20)
    texts = tarloom.open(facts["folder"]).table("caption.text")["caption.text"].to_pylist()
    assert all(text.startswith("picture ") for text in texts)
    assert "Is this a yellow triangle above a green triangle on a blue background?" in json.dumps(captioner.bodies)
    assert facts["price"] == pytest.approx(facts["seconds"] / 100)  # 36 an hour
    assert facts["price_per_million"] == pytest.approx(facts["price"] * 50_000, rel=0.001)
    assert facts["stages"]["caption"]["totals"]["output_tokens"] == 40


@pytest.mark.slow
@pytest.mark.parametrize("place", [pytest.param("local", marks=pytest.mark.long), "s3 by ray"])
def test_captions_by_the_engine_are_right_everywhere(server, tmp_path, place, request):
    """The quickstart's whole list, with all its troubles, captioned by the tiny captioner."""
    source = url_list(tmp_path / "urls.csv", server.url)
    output = request.getfixturevalue("s3").folder("captions") if "s3" in place else tmp_path / "out"
    options = ["--number-sample-per-shard", "64", "--caption.model", CAPTIONER, "--timeout", "4"]
    facts = facts_of(words_for(source, output, *options, *(["--engine", "ray"] if "ray" in place else [])))
    assert (facts["rows"], facts["successes"], facts["shards"]) == (252, 240, 4)
    assert facts["stages"]["caption"]["successes"] == 240
    table = tarloom.open(facts["folder"]).table("caption", "caption.text")
    exact = sum(a == b for a, b in zip(*(table[n].to_pylist() for n in ("caption", "caption.text")), strict=True))
    assert exact >= 0.95 * 240


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"
