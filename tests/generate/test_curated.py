"""What was generated can be chosen from, and be put into a folder, with all that is known of it."""

import pyarrow.parquet as pq

import tarloom
from tarloom.engines.local import LocalEngine
from tarloom.format.verify.dataset import verify
from tarloom.generate.folder import write_folder
from tarloom.process.keep.config import KeepConfig
from tarloom.process.keep.job import KeepJob
from tests.generate.making import LOST, ROWS, SHAPES

CIRCLES = [n for n in range(ROWS) if SHAPES[n % 4] == "circle" and n not in LOST]
SEEN = ("png", "txt", "json", "seed", "sha256")


def without_place(sample: dict) -> dict:
    return {name: value for name, value in sample.items() if name != "__url__"}


def test_some_of_the_generated_pictures_are_a_dataset_and_a_folder_of_their_own(whole, tmp_path):
    made, kept, folder = str(whole), str(tmp_path / "kept"), str(tmp_path / "folder")
    job = KeepJob(KeepConfig(path=made, output=kept, keep_if="shape = 'circle' AND txt = prompt"), LocalEngine(1))
    job.prepare()
    assert sum(report.rows for report in job) == len(CIRCLES)
    found = [without_place(sample) for sample in tarloom.open(kept).select(*SEEN)]
    chosen = tarloom.open(made).where("shape = 'circle'").select(*SEEN)
    assert found == [without_place(sample) for sample in chosen]
    assert pq.read_schema(f"{kept}/00000.parquet") == pq.read_schema(f"{made}/00000.parquet")
    assert [finding for report in verify(kept) for finding in report.findings] == []
    assert write_folder(made, folder).pictures == ROWS - len(LOST)
    table = pq.read_table(f"{folder}/metadata.parquet").to_pylist()
    assert [row["file_name"] for row in table] == [None if n in LOST else f"row{n}.png" for n in range(ROWS)]
    files = {path.name: path.read_bytes() for path in (tmp_path / "folder").glob("*.png")}
    assert files == {f"{sample['__key__']}.png": sample["png"] for sample in tarloom.open(made)}
