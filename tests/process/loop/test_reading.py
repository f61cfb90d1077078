"""A shard is cut into batches once and for all: by number and bytes of all its rows, whatever is wanted of them."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tarloom.errors import StaleIndex
from tarloom.process.batch import Decoder
from tarloom.process.config import ProcessConfig
from tarloom.process.loop import cutting
from tarloom.process.loop.reading import BatchReader
from tarloom.process.loop.times import Clock
from tarloom.process.plan import Planner
from tarloom.read.dataset import open_dataset
from tests.process.pixels import PixelStage
from tests.process.shards import LengthStage, scene_sample, write_shard

LIMIT = 1000
"""Bytes of a batch, here."""


def read(folder, wanted, stage) -> list[tuple[list[int], list[bytes]]]:
    """The numbers and texts of each batch."""
    ((task, _),) = Planner(open_dataset(folder), {"it": stage}, ProcessConfig(path=str(folder))).found()
    decoder = Decoder()
    batches = list(BatchReader(task, [stage], decoder, Clock())(np.array(sorted(wanted), np.int64)))
    decoder.close()
    return [(numbers, batch.column("txt").to_pylist()) for numbers, batch in batches]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), sizes=st.lists(st.integers(0, 700), min_size=1, max_size=40), rows=st.integers(1, 9))
def test_what_is_wanted_comes_by_the_batches_of_the_whole_shard(tmp_path_factory, monkeypatch, data, sizes, rows):
    monkeypatch.setattr(cutting, "BATCH_BYTES", LIMIT)
    folder = tmp_path_factory.mktemp("shards")
    texts = [bytes([97 + number % 26]) * size for number, size in enumerate(sizes)]
    write_shard(folder / "a.tar", [(f"{number:04d}", {"txt": text}) for number, text in enumerate(texts)])
    wanted = data.draw(st.sets(st.integers(0, len(texts) - 1)))
    everything = read(folder, range(len(texts)), LengthStage(batch_size=rows))
    some = read(folder, wanted, LengthStage(batch_size=rows))
    assert [number for numbers, _ in everything for number in numbers] == list(range(len(texts)))
    assert all(len(numbers) <= rows for numbers, _ in everything)
    assert all(len(numbers) == 1 or sum(map(len, said)) <= LIMIT for numbers, said in everything)
    expected = [[number for number in numbers if number in wanted] for numbers, _ in everything]
    assert [numbers for numbers, _ in some] == [numbers for numbers in expected if numbers]
    assert all(said == [texts[number] for number in numbers] for numbers, said in some)


def test_a_shard_that_changed_since_it_was_planned_is_refused(tmp_path):
    write_shard(tmp_path / "a.tar", [(f"{number}", {"txt": b"x" * number}) for number in range(9)])
    stage = LengthStage()
    ((task, _),) = Planner(open_dataset(tmp_path), {"it": stage}, ProcessConfig(path=str(tmp_path))).found()
    write_shard(tmp_path / "a.tar", [(f"{number}", {"txt": b"another" * 2000}) for number in range(9)])
    with pytest.raises(StaleIndex, match=r"a\.tar: is .* bytes long now, was .*; open the dataset again"):
        list(BatchReader(task, [stage], Decoder(), Clock())(np.arange(9)))


def test_pictures_are_decoded_before_a_stage_asks_for_them(tmp_path):
    picture = scene_sample(0)[1]["jpg"]
    rows = [("0", {"jpg": picture}), ("1", {"jpg": b"no picture"}), ("2", {"txt": b"none"})]
    write_shard(tmp_path / "a.tar", rows)
    stage, clock, decoder = PixelStage(), Clock(), Decoder()
    ((task, _),) = Planner(open_dataset(tmp_path), {"it": stage}, ProcessConfig(path=str(tmp_path))).found()
    ((numbers, batch),) = BatchReader(task, [stage], decoder, clock)(np.arange(3))
    decoder.close()  # what is not decoded by now cannot be
    assert numbers == [0, 1, 2]
    assert [p.rgb is not None for p in batch.pictures(stage.at_least)] == [True, False, False]
    assert [p.ending[0] for p in batch.pictures(stage.at_least)] == ["success", "failed", "skipped"]
    assert {"read", "decode"} <= clock.seconds.keys()
