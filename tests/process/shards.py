"""Shards for the tests of processing, written with tarfile alone, and a small stage to run over them."""

import io
import os
import signal
import tarfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from source_data.scenes import HELD_OUT_SEEDS, scene
from tarloom.errors import UsageError
from tarloom.format.sidecar import FAILED, SUCCESS
from tarloom.process.batch import Batch
from tarloom.process.stage import Stage, result_table

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "source_data/models/clip"
CAPTIONER = ROOT / "source_data/models/captioner"
Sample = tuple[str, dict[str, bytes]]


def write_shard(path: Path, samples: Iterable[Sample]) -> None:
    """A tar of samples: key, and members by extension."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in samples:
            for extension, data in members.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def scene_sample(number: int) -> Sample:
    """A held-out scene as a JPEG with its caption."""
    picture, caption = scene(HELD_OUT_SEEDS + number)
    return f"{number:09d}", {"jpg": encoded(picture), "txt": caption.encode()}


def encoded(picture, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, quality=95)
    return file.getvalue()


def scene_shards(folder: Path, *, shards: int, rows: int) -> Path:
    """A folder of shards of scenes. Rows 1, 2 and 3 of the first hold an HTML page, half a JPEG, and no picture."""
    folder.mkdir(parents=True)
    samples = [scene_sample(number) for number in range(shards * rows)]
    samples[1][1]["jpg"] = b"<html>not found</html>"
    samples[2][1]["jpg"] = samples[2][1]["jpg"][:1500]
    del samples[3][1]["jpg"]
    for shard in range(shards):
        write_shard(folder / f"{shard:05d}.tar", samples[shard * rows : (shard + 1) * rows])
    return folder


def sidecars(folder: Path, name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).rglob(f"*.{name}.parquet"))}


@dataclass(frozen=True, kw_only=True)
class LengthStage(Stage):
    """The length of each text. Texts that begin with "bad" fail; "boom" and "kill" end the worker's try or life."""

    unit: str = "bytes"
    batch_size: int = 4
    folder: str = ""
    """Where "boom" and "kill" leave a mark, to happen only once; every time if empty."""
    usable: bool = True

    name = "length"
    members = ("txt",)
    at_least = None

    def check(self) -> None:
        if not self.usable:
            raise UsageError("this stage cannot work")

    def fingerprint(self):
        return {"stage": "length", "unit": self.unit}

    def open(self):
        return LengthWorker(self)


class LengthWorker:
    columns = pa.schema([("length", pa.int32()), ("in_batch", pa.int32())])

    def __init__(self, stage: LengthStage) -> None:
        self._stage = stage

    def __call__(self, batch: Batch) -> pa.Table:
        texts = [text or b"" for text in batch.column("txt").to_pylist()]
        for text in texts:
            self._misfortune(text)
        bad = [text.startswith(b"bad") for text in texts]
        lengths = [None if failed else len(text) for text, failed in zip(texts, bad, strict=True)]
        return result_table(
            self.columns,
            keys=batch.keys,
            values={
                "length": pa.array(lengths, pa.int32()),
                "in_batch": pa.array([len(texts)] * len(texts), pa.int32()),
            },
            endings=[(FAILED, "bad_text") if failed else (SUCCESS, None) for failed in bad],
        )

    def close(self) -> None:
        pass

    def _misfortune(self, text: bytes) -> None:
        if text not in (b"boom", b"kill", b"slow"):
            return
        if text == b"slow":
            time.sleep(0.05)
            return
        if self._stage.folder:
            mark = Path(self._stage.folder, text.decode())
            if mark.exists():
                return
            mark.touch()
        if text == b"kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("boom")
