"""An object store that refuses, throttles and cuts: nothing lost, nothing doubled, the same bytes in the end."""

import json
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tarloom.format.storage import open_storage
from tests.create.helpers import create, write_list
from tests.create.sources.flaky import FlakyServer
from tests.rude_proxy import MANNERS, RudeProxy
from tests.s3_server import environment_set
from tests.source_tree import ROOT

OPTIONS = {"number_sample_per_shard": 8, "retries": 0, "image_size": 128, "timeout": 20.0}
WORDS = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()] + ["--allow-private=127.0.0.0/8"]


def contents(folder: str) -> dict[str, object]:
    """All files by name; of stats only what does not tell the time."""
    storage = open_storage(folder)
    return {entry.name: _timeless(entry.name, storage.read(entry.name)) for entry in storage.list()}


def _timeless(name: str, data: bytes) -> object:
    if not name.endswith("_stats.json"):
        return data
    return {key: value for key, value in json.loads(data).items() if "time" not in key and key != "duration"}


def run(source, folder: str, *more: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "create/create_webdataset.py", "--source", source, "--output", folder, *WORDS, *more]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert "Traceback" not in done.stderr
    return done


def run_until_done(source, folder: str, *more: str) -> None:
    """Run the program again and again, as a user would."""
    for _ in range(8):
        done = run(source, folder, *more)
        assert done.returncode in (0, 1, 3), done.stderr
        if done.returncode == 0:
            return
    pytest.fail(f"not done after all:\n{done.stdout}{done.stderr}")


def test_a_store_behind_a_rude_proxy_holds_the_same_bytes_in_the_end(s3, s3_folder, tmp_path):
    place = urlsplit(s3.environment["AWS_ENDPOINT_URL"])
    with FlakyServer() as server, RudeProxy(place.hostname, place.port, lasts=60_000) as proxy:
        source = write_list(tmp_path / "urls.txt", server.urls(60))
        create(source, tmp_path / "made", **OPTIONS)
        with environment_set({"AWS_ENDPOINT_URL": proxy.url}):
            first = run(source, s3_folder, "--max-shard-retry=0")
            assert first.returncode in (1, 3)
            assert "no answer from 127.0.0.1" in first.stdout + first.stderr
            proxy.lasts = float("inf")
            run_until_done(source, s3_folder)
        assert contents(s3_folder) == contents(str(tmp_path / "made"))
        server.recover("503")
        with environment_set({"AWS_ENDPOINT_URL": proxy.url}):
            run_until_done(source, s3_folder, "--retry-failed=transient")
        create(source, tmp_path / "again", **OPTIONS)
        assert contents(s3_folder) == contents(str(tmp_path / "again"))
        assert set(proxy.met) == set(MANNERS)
