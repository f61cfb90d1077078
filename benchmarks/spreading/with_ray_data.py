"""Ray Data: read and decode in tasks, embed in actors; as a stream, and in bulk, each operator after the other."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import ray.data

from benchmarks.spreading.job import BATCH, STEPS, Answer, Network, dataset, decoded, timed

Columns = dict[str, np.ndarray]


def streaming(folder: str, workers: int) -> Iterator[Answer | None]:
    """All operators work at once, on what the one before has just made."""
    _prepare()
    yield None
    yield from _answers(_embedded(_decoded(_read(folder)), folder, workers))


def bulk(folder: str, workers: int) -> Iterator[Answer | None]:
    """Nothing is decoded before all is read, nothing embedded before all is decoded."""
    _prepare()
    yield None
    read = _read(folder).materialize()
    pixels = _decoded(read).materialize()
    yield from _answers(_embedded(pixels, folder, workers).materialize())


def _read(folder: str) -> ray.data.Dataset:
    return dataset(folder).to_ray(task_bytes=4 << 20)


def _decoded(rows: ray.data.Dataset) -> ray.data.Dataset:
    return rows.map_batches(_decode, batch_size=BATCH, num_cpus=1)


def _embedded(rows: ray.data.Dataset, folder: str, workers: int) -> ray.data.Dataset:
    """Actors have half of the CPUs: with all of them, nobody would decode."""
    return rows.map_batches(
        _Embed,
        fn_constructor_args=(folder,),
        batch_size=BATCH,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=max(1, workers // 2)),
    )


def _decode(rows: Columns) -> Columns:
    seconds: Counter[str] = Counter()
    pixels = timed(seconds, "decode", _stacked, rows["jpg"])
    return {"__key__": rows["__key__"], "pixels": pixels, "decode": _of_first(seconds["decode"], len(pixels))}


class _Embed:
    """Holds the network."""

    def __init__(self, folder: str) -> None:
        self._seconds: Counter[str] = Counter()
        self._network = timed(self._seconds, "load", Network, folder)

    def __call__(self, rows: Columns) -> Columns:
        vectors = timed(self._seconds, "embed", self._network, list(rows["pixels"]))
        spent = {step: _of_first(self._seconds[step], len(vectors)) for step in ("load", "embed")}
        self._seconds.clear()
        return {"__key__": rows["__key__"], "vectors": vectors, "decode": rows["decode"], **spent}


def _answers(rows: ray.data.Dataset) -> Iterator[Answer]:
    for batch in rows.iter_batches(batch_size=None, batch_format="numpy"):
        spent = Counter({step: float(batch[step].sum()) for step in STEPS})
        yield Answer(keys=batch["__key__"].tolist(), vectors=batch["vectors"], seconds=spent)  # type: ignore[arg-type]


def _stacked(pictures: Sequence[bytes]) -> np.ndarray:
    return np.stack(decoded(pictures))


def _of_first(seconds: float, rows: int) -> np.ndarray:
    """A column whose sum this is."""
    return np.array([seconds, *[0.0] * (rows - 1)])


@cache
def _prepare() -> Any:
    """Ray Data's own actors are awake, and it is silent."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray.data.range(2).map_batches(lambda rows: rows).materialize()
