"""A batch: a dict of numpy arrays where values stack, of lists where they don't; threads decode.

    for work in assembly.begun(steps, count):    # some steps ahead: their samples wait for a thread
        while errors := work.errors():           # waits
            work.replace(rows, others)
        batch = work.batch()

Pictures are decoded one by one straight into the batch's array. The decoders release the GIL, and all that Python does
for a sample is small.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tarloom.errors import RowError
from tarloom.format.ahead import Threads, ahead
from tarloom.format.cpus import cpu_share
from tarloom.read.feed.batches.captions import Captions
from tarloom.read.feed.batches.pictures import DRAWS, Fit
from tarloom.read.feed.batches.room import Room
from tarloom.read.feed.batches.stacking import stacked, stacked_column
from tarloom.read.feed.fetching.fetch import Fetched
from tarloom.read.feed.order.chance import Numbers, uniform
from tarloom.read.feed.order.places import Places
from tarloom.read.ledger import Skipped
from tarloom.read.samples.decoders import decode_text, parse_json
from tarloom.read.view import DecodeAs

Batch = dict[str, Any]
Decode = DecodeAs | Fit
AHEAD: Final = 2
"""Steps that are assembled while the one before them is used."""
KEPT: Final = AHEAD + 2
"""Arrays of pictures whose memory waits for the next ones."""
_TASK: Final = 16
"""Samples that a thread decodes at a time."""


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """How samples become a batch."""

    decode: Mapping[str, Decode]
    """Members, and what they are decoded to; all others stay bytes."""
    seed: int
    captions: Captions | None = None
    left_out: frozenset[str] = frozenset()
    """Members and columns that are read for captions alone."""

    def begin(self, samples: Fetched, pool: Executor, room: Room) -> "Assembling":
        """Have it made by the pool's threads."""
        return Assembling(self, samples, pool, room)

    def array_bytes(self, rows: int) -> list[int]:
        """Of the pictures of so many samples, by their members."""
        shapes = (decode.shape for decode in self.decode.values() if isinstance(decode, Fit))
        return [rows * math.prod(shape) * 3 for shape in shapes]

    def begun(self, steps: Iterator[Fetched], count: int, room: Room | None = None) -> Iterator["Assembling"]:
        """So many steps, each begun while those before it are made and used. room: for their pictures."""
        pool, room = Threads(cpu_share(), thread_name_prefix="tarloom-decode"), room or Room(kept=KEPT)
        try:
            yield from ahead(lambda _: self.begin(next(steps), pool, room), range(count), threads=1, each=AHEAD + 1)
        finally:
            pool.shutdown(cancel_futures=True)


class Assembling:
    """A batch that is being made."""

    def __init__(self, assembly: Assembly, samples: Fetched, pool: Executor, room: Room) -> None:
        self.samples = samples
        self._assembly, self._pool = assembly, pool
        self._values = {name: _room_for(assembly.decode.get(name), len(samples), room) for name in samples.members}
        self._begin(np.arange(len(samples)))

    def errors(self) -> dict[int, Skipped]:
        """Wait until it is made; what happened to the samples of which it cannot be made, by their numbers."""
        for task in self._tasks:
            task.result()
        return dict(sorted(self._errors.items()))

    def replace(self, rows: Numbers, others: Fetched) -> None:
        """Take other samples instead of these, in this order."""
        numbers = np.arange(len(self.samples))
        numbers[rows] = len(numbers) + np.arange(len(rows))
        self.samples = Fetched.joined([self.samples, others]).take(numbers)
        self._begin(rows)

    def batch(self) -> Batch:
        """When all of its samples are made."""
        batch: Batch = {"__key__": self.samples.keys}
        batch |= {
            name: stacked(values) if isinstance(values, list) else values for name, values in self._values.items()
        }
        batch |= {name: stacked_column(column) for name, column in self.samples.columns.items()}
        batch = {name: values for name, values in batch.items() if name not in self._assembly.left_out}
        captions = self._assembly.captions
        if captions is not None:  # which may be called like what is left out
            batch[captions.name] = captions.chosen(self.samples, seed=self._assembly.seed)
        return batch

    def _begin(self, rows: Numbers) -> None:
        self._errors: dict[int, Skipped] = {}
        decode = _Decoding(self._assembly, self.samples, self._values, self._errors)
        parts = (rows[first : first + _TASK].tolist() for first in range(0, len(rows), _TASK))
        self._tasks: list[Future[None]] = [self._pool.submit(decode, part) for part in parts]


class _Decoding:
    """Decodes samples, by their numbers; what happened to those that cannot be decoded is among the errors then."""

    def __init__(
        self, assembly: Assembly, samples: Fetched, values: Mapping[str, Any], errors: dict[int, Skipped]
    ) -> None:
        self._samples, self._errors = samples, errors
        self._draws: list[list[float]] = _draws(assembly.seed, samples.places).tolist()
        self._members = [
            (name, found, _writer(assembly.decode.get(name), values[name])) for name, found in samples.members.items()
        ]

    def __call__(self, rows: Sequence[int]) -> None:
        for row in rows:
            for name, found, write in self._members:
                try:
                    write(row, found[row], self._draws[row])
                except RowError as error:
                    key, reason = self._samples.names[row].as_py(), f"{name}: {error.reason}"
                    self._errors[row] = Skipped(where="", key=key, name=error.name, reason=reason)
                    break


_Writer = Callable[[int, memoryview | None, Sequence[float]], None]


def _writer(decode: Decode | None, values: Any) -> _Writer:
    """Puts what a member's bytes are decoded to among these values. Raises RowError."""
    if isinstance(decode, Fit):
        return _fitting(decode, values)
    make = _maker(decode)

    def write(row: int, data: memoryview | None, draws: Sequence[float]) -> None:
        values[row] = None if data is None else make(data)

    return write


def _fitting(fit: Fit, pixels: Any) -> _Writer:
    from tarloom.read.feed.batches.fitting import fit_into  # loads the codecs: only where pictures are decoded

    def write(row: int, data: memoryview | None, draws: Sequence[float]) -> None:
        if data is None:
            raise RowError("missing_member", "the sample has none")
        fit_into(pixels[row], fit, data, draws)

    return write


def _maker(decode: DecodeAs | None) -> Callable[[memoryview], Any]:
    if decode is None:
        return bytes
    if decode in ("json", "text"):
        return parse_json if decode == "json" else decode_text
    from tarloom.read.samples.decode import decode_pil, decode_rgb

    return decode_rgb if decode == "rgb" else decode_pil


def _room_for(decode: Decode | None, rows: int, room: Room) -> Any:
    return room.array((rows, *decode.shape, 3)) if isinstance(decode, Fit) else [None] * rows


def _draws(seed: int, places: Places) -> np.ndarray:
    """Numbers by chance of each sample in its pass, whoever reads it: float64 of shape (samples, DRAWS)."""
    parts = (places.sources, places.passes, places.shards, places.rows)
    return uniform(seed, "picture", *(part[:, None] for part in parts), np.arange(DRAWS))
