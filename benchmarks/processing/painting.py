"""Painting: the actor that makes shards of rows, beside bare loops over the same pipeline."""

import csv
import os
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tarloom.engines.base import Item, NotYet, Opener, Outcome, Result
from tarloom.generate.config import GenerateConfig
from tarloom.generate.job import GenerateJob
from tarloom.generate.tables.config import TableConfig
from tarloom.process.paint.stage import PaintStage, picture_seed

MODEL = os.environ.get("BENCHMARK_PAINTER", "source_data/models/painter")
BATCH, STEPS, GUIDANCE = 16, 12, 3.0
SHARD = 64
"""Rows; the first shard warms up."""
SHAPES, COLOURS = ("star", "circle", "square", "cross"), ("red", "green", "blue", "yellow", "purple")


class OneWorker:
    """An engine with a worker in this process, which gets a shard when the one before it is done."""

    def map(
        self, opener: Opener[Item, Result], items: Iterable[Item | NotYet], *, retries: int = 2
    ) -> Iterator[Outcome[Item, Result]]:
        worker = opener()
        for item in items:
            assert not isinstance(item, NotYet)
            yield Outcome(item=item, result=worker(item))
        worker.close()

    def close(self) -> None:
        """There is nothing to leave."""


def street(folder: str) -> Iterator[int]:
    """Rows to shards; the rows are there before the clock starts."""
    with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-", dir=folder) as output:
        table = TableConfig(prompts=f"{folder}/prompts.csv", template="{prompt}", key_col="name")
        stage = PaintStage(model=MODEL, steps=STEPS, guidance=GUIDANCE, batch_size=BATCH)
        config = GenerateConfig(table=table, output=output, number_sample_per_shard=SHARD)
        job = GenerateJob(config, {"paint": stage}, OneWorker())
        job.prepare()
        reports = iter(job)
        next(reports)
        yield 0
        yield sum(report.successes for report in reports)


def plain_loop(folder: str) -> Iterator[int]:
    """Pass after pass."""
    first, *others = batches(folder)
    pipeline = loaded()
    paint(pipeline, first)
    yield 0
    yield sum(paint(pipeline, batch) for batch in others[SHARD // BATCH - 1 :])


def loops_side_by_side(folder: str) -> Iterator[int]:
    """A pipeline for each core: the tiny model is loaded so many times."""
    import torch

    torch.set_num_threads(1)
    cores = len(os.sched_getaffinity(0))
    first, *others = batches(folder)
    pipelines = [loaded() for _ in range(cores)]
    rest = others[SHARD // BATCH - 1 :]
    with ThreadPoolExecutor(cores) as threads:
        list(threads.map(lambda pipeline: paint(pipeline, first), pipelines))
        yield 0
        yield sum(threads.map(lambda n: sum(paint(pipelines[n], batch) for batch in rest[n::cores]), range(cores)))


def batches(folder: str) -> list[list[tuple[str, str]]]:
    """Keys and prompts of all rows."""
    with Path(folder, "prompts.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["name"], row["prompt"]) for row in csv.DictReader(file)]
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def loaded() -> Any:
    import torch
    from diffusers import DiffusionPipeline

    device = "cuda" if torch.cuda.is_available() else "cpu"
    load: Any = DiffusionPipeline.from_pretrained
    pipeline = load(MODEL, dtype=torch.bfloat16 if device == "cuda" else torch.float32).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def paint(pipeline: Any, rows: list[tuple[str, str]]) -> int:
    import torch

    generators = [torch.Generator("cpu").manual_seed(picture_seed(0, key)) for key, _ in rows]
    prompts = [prompt for _, prompt in rows]
    made = pipeline(prompts, generator=generators, num_inference_steps=STEPS, guidance_scale=GUIDANCE)
    return len(made.images)


def make_prompts(path: Path, rows: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "prompt"])
        for row in range(rows):
            prompt = f"a {COLOURS[row % len(COLOURS)]} {SHAPES[row % len(SHAPES)]} on a white background"
            writer.writerow([f"row{row}", prompt])
