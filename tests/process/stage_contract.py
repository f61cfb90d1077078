"""What every stage promises. Each inherits these tests: those that come with tarloom, and anybody's own.

A subclass says how to `make` the stage, and `other` values of its options.
"""

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from tarloom.engines.local import LocalEngine
from tarloom.format.sidecar import ERROR, STATUS, STATUSES, SUCCESS
from tarloom.process.batch import AT_LEAST, Batch, Decoder
from tarloom.process.config import ProcessConfig
from tarloom.process.job import ProcessJob
from tarloom.process.stage import Stage, StageWorker, result_schema
from tarloom.process.stages.quality import QualityStage
from tests.process.shards import ROOT, Sample, scene_sample, sidecars, write_shard

ROWS = 12
WITHOUT_A_PICTURE = {1: ("failed", "not_an_image"), 2: ("failed", "truncated"), 3: ("skipped", "no_picture")}
FRAMEWORKS = {"ray", "pyspark", "torch", "transformers", "vllm", "open_clip", "cv2", "simplejpeg", "duckdb"}


def samples() -> list[Sample]:
    """Scenes with their captions; some members are no pictures."""
    made = [scene_sample(number) for number in range(ROWS)]
    made[1][1]["jpg"] = b"<html>not found</html>"
    made[2][1]["jpg"] = made[2][1]["jpg"][:1500]
    del made[3][1]["jpg"]
    return made


class StageContract:
    """Inherited by the tests of each stage."""

    free: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    """Options that do not shape its answers."""
    before: ClassVar[Mapping[str, Stage]] = {}
    """Stages that make what it wants to see, by the names of their sidecars."""

    @staticmethod
    def make(folder: Path) -> Stage:
        """The stage. folder: an empty one, for files that it may want."""
        raise NotImplementedError

    @staticmethod
    def other(folder: Path) -> Mapping[str, Any]:
        """Another value of every option that shapes its answers."""
        return {}

    @pytest.fixture(scope="class")
    @classmethod
    def stage(cls, tmp_path_factory: pytest.TempPathFactory) -> Stage:
        return cls.make(tmp_path_factory.mktemp("files"))

    @pytest.fixture(scope="class")
    @classmethod
    def worker(cls, stage: Stage) -> Iterator[StageWorker]:
        """One for the tests of a class. It is closed twice: whoever cleans up need not know if it was done."""
        stage.check()
        worker = stage.open()
        yield worker
        worker.close()
        worker.close()

    @pytest.fixture(scope="class")
    @classmethod
    def batch(cls, stage: Stage) -> Iterator[Batch]:
        """All samples, with the columns that the stage wants to see."""
        decoder = Decoder()
        yield cls._joined(Batch(rows_of(samples()), decoder))
        decoder.close()

    @pytest.fixture(scope="class")
    @classmethod
    def answer(cls, worker: StageWorker, batch: Batch) -> pa.Table:
        return worker(batch)

    def test_every_row_is_answered_in_order_with_the_columns_that_were_promised(self, worker, batch, answer):
        assert answer.column("__key__").combine_chunks().equals(batch.keys)
        assert answer.schema == result_schema(worker.columns)

    def test_what_cannot_be_answered_is_a_row_with_a_documented_name(self, answer):
        named = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
        for row in answer.select([STATUS, ERROR]).to_pylist():
            assert row[STATUS] in STATUSES
            assert (row[ERROR] is None) == (row[STATUS] == SUCCESS)
            assert row[ERROR] is None or f"`{row[ERROR]}`" in named, row[ERROR]
        assert SUCCESS in answer.column(STATUS).to_pylist()

    @pytest.mark.parametrize("sizes", [[1] * ROWS, [5, 7], [4, 1, 7]], ids=str)
    def test_answers_do_not_depend_on_how_rows_are_batched(self, worker, batch, answer, sizes):
        assert pa.concat_tables(worker(part) for part in parts(batch, sizes)).combine_chunks().equals(answer)

    def test_answers_are_the_same_from_as_many_threads_as_it_takes(self, stage, worker, batch, answer):
        with ThreadPoolExecutor(stage.calls) as threads:
            found = list(threads.map(worker, parts(batch, [3] * 4)))
        assert pa.concat_tables(found).combine_chunks().equals(answer)

    def test_the_fingerprint_tells_every_option_apart_that_shapes_the_answers(self, stage, tmp_path):
        other = self.other(tmp_path)
        assert {field.name for field in fields(stage)} == set(other) | self.free
        for option, value in other.items():
            assert replace(stage, **{option: value}).fingerprint() != stage.fingerprint(), option
        assert replace(stage, batch_size=3).fingerprint() == stage.fingerprint()
        assert all(isinstance(text, str) for pair in stage.fingerprint().items() for text in pair)

    def test_a_description_travels_and_loads_no_framework(self, stage):
        said = in_another_process(pickle.dumps(stage))
        assert said["fingerprint"] == dict(stage.fingerprint())
        assert set(said["modules"]) & FRAMEWORKS == set()

    def test_sidecars_are_the_same_alone_and_with_others_in_batches_of_any_size(self, stage, tmp_path):
        alone, together = tmp_path / "alone", tmp_path / "together"
        for folder in (alone, together):
            folder.mkdir()
            write_shard(folder / "0.tar", samples())
        if self.before:
            run(alone, self.before)
        run(alone, {"stage": replace(stage, batch_size=4)})
        run(together, {**self.before, "other": QualityStage(), "stage": stage})
        assert sidecars(alone, "stage") == sidecars(together, "stage")
        assert len(sidecars(alone, "stage")) == 1

    @classmethod
    def _joined(cls, batch: Batch) -> Batch:
        """The batch with the columns that stages before this one make."""
        for name, stage in cls.before.items():
            worker = stage.open()
            table = worker(batch)
            batch = batch.joined({f"{name}.{c}": table.column(c).combine_chunks() for c in worker.columns.names})
            worker.close()
        return batch


class PictureStageContract(StageContract):
    """Inherited by the tests of each stage that sees pictures."""

    def test_a_row_without_a_picture_says_why(self, answer):
        rows = answer.select([STATUS, ERROR]).to_pylist()
        assert {n: (rows[n][STATUS], rows[n][ERROR]) for n in WITHOUT_A_PICTURE} == WITHOUT_A_PICTURE

    def test_pictures_are_left_as_they_were(self, stage, worker, batch):
        size = stage.at_least or AT_LEAST
        before = [None if p.rgb is None else p.rgb.tobytes() for p in batch.pictures(size)]
        worker(batch)
        assert [None if p.rgb is None else p.rgb.tobytes() for p in batch.pictures(size)] == before


def rows_of(samples: Sequence[Sample]) -> pa.RecordBatch:
    """As they are read from a shard."""
    members = sorted({extension for _, found in samples for extension in found})
    columns = {m: pa.array([found.get(m) for _, found in samples], pa.binary()) for m in members}
    return pa.RecordBatch.from_pydict({"__key__": pa.array([key for key, _ in samples]), **columns})


def ask(stage: Stage, *members: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """What a stage says of samples with these members."""
    decoder, worker = Decoder(), stage.open()
    try:
        rows = rows_of([(str(number), dict(found)) for number, found in enumerate(members)])
        return worker(Batch(rows, decoder)).to_pylist()
    finally:
        worker.close()
        decoder.close()


def parts(batch: Batch, sizes: Sequence[int]) -> Iterator[Batch]:
    """Neighbouring rows, so many at a time."""
    first = 0
    for size in sizes:
        yield batch.select(range(first, first + size))
        first += size


def run(folder: Path, stages: Mapping[str, Stage]) -> ProcessJob:
    job = ProcessJob(stages, ProcessConfig(path=str(folder)), LocalEngine())
    job.prepare()
    assert len(list(job)) == len(sidecars(folder, next(iter(stages))))
    assert job.summary().failed_shards == {}
    return job


def in_another_process(pickled: bytes) -> dict[str, Any]:
    """What a fresh Python says of a stage that has come to it, and which packages it has loaded then."""
    code = (
        "import json, pickle, sys; stage = pickle.loads(bytes.fromhex(sys.stdin.read()))\n"
        "seen = stage.name, stage.members, stage.inputs, stage.at_least, stage.calls\n"
        "modules = sorted({name.partition('.')[0] for name in sys.modules})\n"
        "print(json.dumps({'fingerprint': dict(stage.fingerprint()), 'modules': modules}))"
    )
    paths = {"path": [str(ROOT), str(ROOT / "docs")]}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths['path']}\n{code}"],
        input=pickled.hex(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
