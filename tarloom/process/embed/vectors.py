"""Vectors of pictures and texts by a model that is loaded: passes through it, side by side or one after the other.

On a CPU a pass is a few rows in a single thread, and passes run side by side: torch's own threads would change the
order of its sums, and so the last bits of the vectors, with their number. A pass always has as many rows, some of them
empty, for the same reason: a vector depends on nothing but its picture.

On a GPU a pass is as many rows as its memory takes. Threads fit the pictures into pinned memory; each call has a stream
of its own, so that one call's pictures are fitted and copied while another's are in the model.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np

from tarloom.engines.base import WorkerBroken
from tarloom.errors import UsageError, missing_extra
from tarloom.format.cpus import cpu_share
from tarloom.process.embed.encoder import open_encoder
from tarloom.process.embed.stage import ModelStage
from tarloom.process.embed.tensors import fitted, fitted_tensor, normalised, unit

try:
    import torch
except ImportError as error:
    raise missing_extra("torch", error) from error

CPU_ROWS = 8
"""In one pass on a CPU. Fixed, like all that could change the last bits."""


class Vectors:
    """Safe to use from as many threads as the stage has calls. Raises UsageError where the model cannot be loaded."""

    def __init__(self, stage: ModelStage) -> None:
        torch.set_num_threads(1)
        self._encoder = open_encoder(stage)
        self.width = self._encoder.width
        self._on_cpu = self._encoder.device.type == "cpu"
        self._rows = CPU_ROWS if self._on_cpu else stage.batch_rows
        self._threads = ThreadPoolExecutor(cpu_share(), thread_name_prefix="tarloom-embed")
        self._streams: SimpleQueue[Any] = SimpleQueue()
        for _ in range(0 if self._on_cpu else stage.calls):
            self._streams.put(torch.cuda.Stream())
        if not self._on_cpu:
            torch.cuda.synchronize()  # streams do not wait for the weights to have arrived
        self._see = torch.compile(self._seen, dynamic=False) if stage.compile else self._seen

    def of_pictures(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """float32 of shape (pictures, dim). pictures: uint8 of shape (height, width, 3)."""
        return self._passes(pictures, self._see_pictures)

    def of_jpegs(self, stored: Sequence[bytes]) -> np.ndarray:
        """The same of plain JPEGs, decoded where the model runs; NaN for those that it cannot decode."""
        return self._passes(stored, self._see_jpegs)

    def of_texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 of shape (texts, dim)."""
        lengths = defaultdict[int, list[int]](list)
        for row, text in enumerate(texts):
            lengths[self._encoder.length(text)].append(row)
        vectors = np.zeros((len(texts), self.width), np.float32)
        for length, rows in lengths.items():
            vectors[rows] = self._passes([texts[row] for row in rows], partial(self._read_texts, length=length))
        return vectors

    def close(self) -> None:
        """Free the model's memory. Once is enough."""
        self._threads.shutdown(cancel_futures=True)  # of a batch that nobody waits for: after Ctrl-C
        for held in ("_encoder", "_see"):
            vars(self).pop(held, None)

    def _passes(self, rows: Sequence[Any], see: Callable[[Sequence[Any]], "torch.Tensor"]) -> np.ndarray:
        parts = [rows[start : start + self._rows] for start in range(0, len(rows), self._rows)]
        side_by_side = self._threads.map if self._on_cpu else map
        with self._stream():
            found = list(side_by_side(lambda part: self._pass(part, see), parts))
        return np.concatenate([np.zeros((0, self.width), np.float32), *found])

    def _pass(self, rows: Sequence[Any], see: Callable[[Sequence[Any]], "torch.Tensor"]) -> np.ndarray:
        """One pass, or, where it does not fit the memory, two of half as many rows; as many from then on."""
        try:
            with torch.inference_mode():
                return np.asarray(see(rows)[: len(rows)].cpu().numpy())
        except torch.OutOfMemoryError as error:
            if len(rows) == 1:
                raise UsageError(f"{error}; the model does not fit this machine's memory with a single row") from error
        except RuntimeError as error:
            raise WorkerBroken(f"the model failed: {error}") from error
        half = -(-len(rows) // 2)
        self._rows = min(self._rows, half)
        torch.cuda.empty_cache()
        return np.concatenate([self._pass(rows[:half], see), self._pass(rows[half:], see)])

    def _see_pictures(self, pictures: Sequence[np.ndarray]) -> "torch.Tensor":
        fitting = self._encoder.fitting
        pixels = torch.zeros(
            (self._full(len(pictures)), 3, *fitting.crop), dtype=torch.uint8, pin_memory=not self._on_cpu
        )

        def fit(first: int) -> None:
            for row in range(first, min(first + CPU_ROWS, len(pictures))):
                pixels[row] = fitted(pictures[row], fitting)

        list((map if self._on_cpu else self._threads.map)(fit, range(0, len(pictures), CPU_ROWS)))
        seen: torch.Tensor = self._see(pixels.to(self._encoder.device, non_blocking=True))
        return seen

    def _see_jpegs(self, stored: Sequence[bytes]) -> "torch.Tensor":
        from tarloom.process.embed.jpegs import decoded

        fitting, device = self._encoder.fitting, self._encoder.device
        pixels = torch.zeros((self._full(len(stored)), 3, *fitting.crop), dtype=torch.uint8, device=device)
        broken = []
        for row, picture in enumerate(decoded(stored, device)):
            if picture is None:
                broken.append(row)
            else:
                pixels[row] = fitted_tensor(picture, fitting)
        seen: torch.Tensor = self._see(pixels)
        seen[broken] = torch.nan
        return seen

    def _seen(self, pixels: "torch.Tensor") -> "torch.Tensor":
        return unit(self._encoder.pictures(normalised(pixels, self._encoder.fitting).to(self._encoder.dtype)))

    def _read_texts(self, texts: Sequence[str], *, length: int) -> "torch.Tensor":
        padded = [*texts, *[""] * (self._full(len(texts)) - len(texts))]
        return unit(self._encoder.texts(padded, length))

    def _full(self, rows: int) -> int:
        """Rows of a pass with the empty ones: a power of two, and on a CPU always the same."""
        return max(min(CPU_ROWS, self._rows), 1 << (rows - 1).bit_length())

    @contextmanager
    def _stream(self) -> Iterator[None]:
        """One of the GPU's streams, for this call alone."""
        if self._on_cpu:
            yield
            return
        stream = self._streams.get()
        try:
            with torch.cuda.stream(stream):
                yield
        finally:
            self._streams.put(stream)
