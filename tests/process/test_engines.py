"""The same sidecars on every engine; what dies on the way is done again, by others."""

import contextlib
import shutil
from pathlib import Path

import pytest

from tarloom.engines.choose import EngineConfig, open_engine
from tarloom.engines.local import LocalEngine
from tarloom.process.config import ProcessConfig
from tarloom.process.embed.stage import EmbedStage
from tarloom.process.job import ProcessJob
from tests.process.asked import AskedStage, asked
from tests.process.pixels import PixelStage
from tests.process.shards import CLIP, LengthStage, scene_shards, sidecars, write_shard

SHARDS, ROWS = 4, 24
pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.data\.context")  # Ray copies its settings
ENGINES = {
    "local": {"num_workers": 2},
    "ray": {"num_workers": "1,2", "cpus_per_worker": 0.5},
    "ray-data": {"num_workers": "1,2", "cpus_per_worker": 0.5},
    "spark": {"num_workers": 2},
}

UNDER_WAY = {"local": 4, "ray": 4, "ray-data": 8, "spark": 4}
"""Rows in batches of 4. Ray Data gives a worker a second batch meanwhile, and asks anew what it has not heard of: an
answer too that was sent just before the end."""


@pytest.fixture
def engine(request):
    """By its name; Ray's and Spark's sessions are those of all tests."""
    name = request.param
    if name != "local":
        request.getfixturevalue("spark_session" if name == "spark" else "ray_session")
    with contextlib.closing(open_engine(EngineConfig(engine=name, **ENGINES[name]))) as opened:
        yield opened


on_every_engine = pytest.mark.parametrize("engine", ENGINES, indirect=True)


SMALL = {"length": LengthStage(batch_size=8), "pixels": PixelStage(batch_size=8)}
CLIP_AS_WELL = {**SMALL, "clip": EmbedStage(model=str(CLIP), batch_size=8)}


def run(folder, stages, engine):
    job = ProcessJob(stages, ProcessConfig(path=str(folder)), engine)
    job.prepare()
    for _ in job:
        pass
    assert job.summary().failed_shards == {}
    return job.summary()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Shards of scenes; not to be written to."""
    return scene_shards(tmp_path_factory.mktemp("engines") / "shards", shards=SHARDS, rows=ROWS)


@on_every_engine
@pytest.mark.parametrize("stages", [SMALL, pytest.param(CLIP_AS_WELL, marks=pytest.mark.slow)], ids=["small", "clip"])
def test_sidecars_have_the_same_bytes(engine, stages, scenes, tmp_path):
    alone, shards = (shutil.copytree(scenes, tmp_path / name) for name in ("alone", "shards"))
    run(alone, stages, LocalEngine())
    summary = run(shards, stages, engine)
    assert {name: sidecars(shards, name) for name in stages} == {name: sidecars(alone, name) for name in stages}
    assert summary.rows == len(stages) * SHARDS * ROWS
    assert not list(shards.glob("_tarloom/parts/*/*"))


@on_every_engine
def test_a_worker_that_is_killed_repeats_no_more_than_it_had_under_way(engine, request, tmp_path):
    shards, log = texts(tmp_path / "shards"), tmp_path / "log"
    log.mkdir()
    whole = shutil.copytree(shards, tmp_path / "whole")
    run(whole, AskedStage(log=str(tmp_path), batch_size=4), LocalEngine())
    killed = AskedStage(log=str(log), batch_size=4, ends_at="0013")
    run(shards, killed, engine)
    assert sidecars(shards, "asked") == sidecars(whole, "asked")
    assert (log / "ended").exists()
    again = {key: times for key, times in asked(log).items() if times > 1}
    assert len(again) <= UNDER_WAY[request.node.callspec.params["engine"]], again


def texts(folder: Path) -> Path:
    folder.mkdir()
    for shard in range(3):
        numbers = range(20 * shard, 20 * shard + 20)
        write_shard(folder / f"{shard}.tar", [(f"{n:04d}", {"txt": b"text %d" % n}) for n in numbers])
    return folder
