"""What the creation tests share: running a job, and comparing whole output folders."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tarloom.create.config import (
    ConsentOptions,
    CreateConfig,
    ImageOptions,
    ListOptions,
    ResumeOptions,
    ShardOptions,
    WebOptions,
)
from tarloom.create.job import CreateJob
from tarloom.create.summary import CreateSummary
from tarloom.engines.local import LocalEngine
from tests.source_tree import ROOT

PICTURES = ROOT / "source_data" / "pictures"
GROUPS = {
    "lists": ListOptions,
    "images": ImageOptions,
    "web": WebOptions,
    "consent": ConsentOptions,
    "sharding": ShardOptions,
    "resume": ResumeOptions,
}
LOOPBACK = ("127.0.0.0/8",)


def configuration(source: str | Path, output: Path, **options) -> CreateConfig:
    """Options go to the group that has them."""
    options = {"image_size": 64, "number_sample_per_shard": 10, "allow_private": LOOPBACK, "timeout": 20.0} | options
    groups = {
        group: kind(**{name: options.pop(name) for name in list(options) if name in kind.__dataclass_fields__})
        for group, kind in GROUPS.items()
    }
    assert not options
    return CreateConfig(source=str(source), output=str(output), **groups)


def create(source: str | Path, output: Path, *, workers: int = 1, **options) -> CreateSummary:
    job = CreateJob(configuration(source, output, **options), LocalEngine(workers))
    job.prepare()
    for _ in job:
        pass
    return job.summary()


def rows(output: Path, shard: str = "00000") -> list[dict]:
    return pq.read_table(output / f"{shard}.parquet").to_pylist()


def table(output: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted(output.glob("*.parquet")))


def contents(output: Path) -> dict[str, bytes]:
    """All files of an output folder by name, hidden ones too; of the stats all but the times."""
    found = {}
    for folder, _, names in os.walk(output):
        for name in names:
            path = Path(folder, name)
            data = path.read_bytes()
            if name.endswith("_stats.json"):
                timeless = {key: value for key, value in json.loads(data).items() if not _is_time(key)}
                data = json.dumps(timeless, sort_keys=True).encode()
            found[str(path.relative_to(output))] = data
    return found


def _is_time(name: str) -> bool:
    return name in ("duration", "start_time", "end_time")


def write_list(path: Path, urls: list[str]) -> Path:
    path.write_text("".join(f"{url}\n" for url in urls))
    return path


def photo(height: int, width: int, *, detail: int = 8) -> Image.Image:
    """A smooth picture with details of so many pixels."""
    shape = (max(1, height // detail), max(1, width // detail), 3)
    noise = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
