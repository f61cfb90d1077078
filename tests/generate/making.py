"""What the tests of generation share: small tables, a job over them, and comparing what it made."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tarloom.create.summary import CreateSummary
from tarloom.engines.base import Engine
from tarloom.engines.local import LocalEngine
from tarloom.format.storage import open_storage
from tarloom.generate.config import GenerateConfig
from tarloom.generate.job import GenerateJob
from tarloom.generate.tables.config import TableConfig
from tarloom.process.paint.stage import PaintStage
from tarloom.process.stage import Stage
from tests.source_tree import ROOT

MODELS = ROOT / "source_data" / "models"
PAINTER = str(MODELS / "painter")
TEMPLATE = "a {colour} {shape} on a {ground} background"
SHAPES = ("circle", "square", "triangle", "star")
COLOURS = {"r": "red", "g": "green", "b": "blue"}
LOST = (5, 11)
"""Rows whose colour no table knows."""
ROWS = 23


def write_csv(path: Path, names: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])
    return path


def tables(folder: Path) -> TableConfig:
    """Prompts, some of which name a colour that the table of colours lacks."""
    folder.mkdir(exist_ok=True)
    codes = [*COLOURS]
    rows = [
        (f"row{n}", SHAPES[n % 4], "x" if n in LOST else codes[n % 3], ("gray", "yellow")[n % 2]) for n in range(ROWS)
    ]
    prompts = write_csv(folder / "prompts.csv", ("name", "shape", "code", "ground"), rows)
    details = write_csv(folder / "colours.csv", ("code", "colour"), list(COLOURS.items()))
    return TableConfig(prompts=str(prompts), details=(f"{details}:code",), template=TEMPLATE, key_col="name")


def painter(**options: object) -> PaintStage:
    """The tiny one; a few steps are enough to see that pictures are the same."""
    defaults = {"model": PAINTER, "steps": 2, "guidance": 1.0, "batch_size": 4}
    return PaintStage(**(defaults | options))  # type: ignore[arg-type]


def generate(
    table: TableConfig,
    output: Path | str,
    stages: Mapping[str, Stage] | None = None,
    engine: Engine | None = None,
    **options: object,
) -> CreateSummary:
    job = job_over(table, output, stages, engine, **options)
    for _ in job:
        pass
    return job.summary()


def job_over(
    table: TableConfig,
    output: Path | str,
    stages: Mapping[str, Stage] | None = None,
    engine: Engine | None = None,
    **options: object,
) -> GenerateJob:
    """A job that is prepared."""
    defaults: dict[str, object] = {"number_sample_per_shard": 10}
    config = GenerateConfig(table=table, output=str(output), **(defaults | options))  # type: ignore[arg-type]
    job = GenerateJob(config, stages or {"paint": painter()}, engine or LocalEngine())
    job.prepare()
    return job


def contents(folder: Path | str) -> dict[str, object]:
    """All files by name; of stats only what does not tell the time. Catalogues are for readers."""
    storage = open_storage(str(folder))
    names = [entry.name for entry in storage.list() if not entry.name.endswith("catalog.parquet")]
    return {name: _timeless(name, storage.read(name)) for name in names}


def _timeless(name: str, data: bytes) -> object:
    if not name.endswith("_stats.json"):
        return data
    return {key: value for key, value in json.loads(data).items() if "time" not in key and key != "duration"}
