"""The job: every picture of some shards is read, decoded, and put through a network that is loaded from a file.

The network's weights are whole numbers, and so are all its sums, which float32 holds exactly: what it says of a picture
does not depend on the others of a batch, so that all ways must come to the same digest.
"""

import hashlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from tarloom.read.dataset import Dataset, open_dataset
from tarloom.read.plan.pieces import Piece
from tarloom.read.samples.batches import read_piece
from tarloom.read.samples.decode import decode_rgb

BATCH = 32
"""Pictures in one pass of the network."""
PIECE = 64
"""Pictures in a task, or handed to an actor at a time."""
SIDE = 32
SIZES = (3 * SIDE * SIDE, 4096, 4096, 64)
"""Numbers that go into each layer, and out of the last one."""
STEPS = ("load", "decode", "embed")
Given = TypeVar("Given")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Of some pictures."""

    keys: Sequence[str]
    vectors: np.ndarray
    """uint8 of shape (pictures, 64)."""
    seconds: Counter[str] = field(default_factory=Counter)
    """Of CPU, in each of STEPS."""


class Network:
    """118 MB of weights: what a worker would rather load once than for every task."""

    def __init__(self, folder: str) -> None:
        with np.load(_file(folder)) as stored:
            self._layers = [stored[name].astype(np.float32) for name in sorted(stored)]

    def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """pictures: uint8 of shape (height, width, 3). uint8 of shape (pictures, 64)."""
        cv2.setNumThreads(1)
        small = [cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for rgb in pictures]
        values = np.stack(small).reshape(len(small), -1).astype(np.float32)
        for weights in self._layers:
            values = np.clip(np.floor(values @ weights / 32), 0, 255)
        return values.astype(np.uint8)


def make_network(folder: str) -> None:
    """Beside the dataset; weights are -1, 0 and 1."""
    if not _file(folder).exists():
        chance = np.random.default_rng(0)
        layers = itertools.pairwise(SIZES)
        np.savez(_file(folder), *(chance.integers(-1, 2, size, np.int8) for size in layers))


def dataset(folder: str) -> Dataset:
    return open_dataset(folder).select("jpg")


def pieces(folder: str) -> list[Piece]:
    """Small ones, so that the last ones end at about the same time."""
    found = dataset(folder)
    return found.pieces(max(1, found.nbytes * PIECE // len(found)))


def answers(piece: Piece, network: Network, seconds: Counter[str]) -> Iterator[Answer]:
    """Batch by batch. seconds: that were spent before, told with the first."""
    for batch in read_piece(piece, batch_rows=BATCH):
        pictures = timed(seconds, "decode", decoded, batch.column("jpg").to_pylist())
        vectors = timed(seconds, "embed", network, pictures)
        yield Answer(keys=batch.column("__key__").to_pylist(), vectors=vectors, seconds=Counter(seconds))
        seconds.clear()


def together(found: Iterable[Answer]) -> Answer:
    every = list(found)
    return Answer(
        keys=[key for answer in every for key in answer.keys],
        vectors=np.concatenate([answer.vectors for answer in every]),
        seconds=sum((answer.seconds for answer in every), Counter[str]()),
    )


def decoded(pictures: Sequence[bytes]) -> list[np.ndarray]:
    return [decode_rgb(data) for data in pictures]


def timed(seconds: Counter[str], step: str, work: Callable[[Given], Result], given: Given) -> Result:
    """What comes of it; the CPU time of this thread is counted."""
    started = time.thread_time()
    result = work(given)
    seconds[step] += time.thread_time() - started  # type: ignore[assignment]  # a Counter counts fractions, too
    return result


def digest(answer: Answer) -> int:
    """Of keys and what was said of each, in any order: digests of parts are to be added."""
    rows = zip(answer.keys, answer.vectors, strict=True)
    return sum(_number(key.encode() + vector.tobytes()) for key, vector in rows)


def _number(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


def _file(folder: str) -> Path:
    return Path(folder).parent / "network.npz"
