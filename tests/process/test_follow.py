"""A run that follows creation: shards are processed as they are named, while others are still being made."""

import shutil

import pytest

from tarloom.engines.local import LocalEngine
from tarloom.errors import ShardError
from tarloom.process.config import ProcessConfig
from tarloom.process.job import ProcessJob
from tests.process.shards import LengthStage, sidecars, write_shard


def shards_of_texts(folder, count):
    folder.mkdir(exist_ok=True)
    for shard in range(count):
        write_shard(folder / f"{shard:05d}.tar", [(f"{shard}-{row}", {"txt": b"x" * row}) for row in range(5)])
    return folder


def processed(folder, engine) -> ProcessJob:
    return ProcessJob(LengthStage(), ProcessConfig(path=str(folder)), engine)


@pytest.mark.parametrize("engine", [LocalEngine(), LocalEngine(2)], ids=["inline", "processes"])
def test_shards_are_processed_as_they_are_made_like_those_that_were_there(tmp_path, engine):
    made, whole = shards_of_texts(tmp_path / "made", 4), tmp_path / "whole"
    shutil.copytree(made, whole)
    ahead = tmp_path / "ahead"
    ahead.mkdir()
    for tar in made.glob("*.tar"):
        tar.rename(ahead / tar.name)
    ended = []

    def arriving():
        """Each shard is there only when the one before it has been processed."""
        for number in range(4):
            while len(ended) < number:
                yield None
            (ahead / f"{number:05d}.tar").rename(made / f"{number:05d}.tar")
            yield f"{number:05d}"

    job = processed(made, engine)
    for report in job.follow(arriving()):
        ended.append(report.shard)
    assert ended == [f"{number:05d}" for number in range(4)]
    assert (job.summary().rows, job.summary().shards, job.summary().skipped) == (20, 4, 0)
    alone = processed(whole, LocalEngine())
    alone.prepare()
    list(alone)
    assert sidecars(made, "length") == sidecars(whole, "length")


def test_what_was_there_before_is_done_first_and_what_is_done_is_skipped(tmp_path):
    folder = shards_of_texts(tmp_path / "shards", 3)
    first = processed(folder, LocalEngine())
    list(first.follow(["00001"]))
    assert [report.shard for report in processed(folder, LocalEngine()).follow(["00001"])] == ["00001"]
    second = processed(folder, LocalEngine())
    second.prepare()
    write_shard(folder / "00003.tar", [])  # nothing could be downloaded
    reports = list(second.follow(iter([None, "00003"])))
    assert [report.shard for report in reports] == ["00001", "00000", "00002", "00003"]
    assert (second.summary().shards, second.summary().skipped) == (4, 1)
    assert len(sidecars(folder, "length")) == 4


def test_a_shard_that_is_not_there_is_named(tmp_path):
    job = processed(shards_of_texts(tmp_path / "shards", 1), LocalEngine())
    with pytest.raises(ShardError, match=r"00007\.tar: is gone"):
        list(job.follow(["00007"]))
