"""Passes of a text-to-image pipeline of diffusers: always of the same shape, whatever the rows.

The last bits of a picture depend on how many are painted in one pass, and on how many threads share the sums, but not
on which row of the pass it is nor on its neighbours. So a pass always has as many rows, some of them empty, and on a
CPU each is computed in a single thread, as many passes side by side as there are cores. On a GPU a pass is as many rows
as a batch has; halved, from then on, where its memory does not take them.
"""

import copy
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np

from tarloom.engines.base import WorkerBroken
from tarloom.errors import UsageError, missing_extra
from tarloom.format.cpus import cpu_share
from tarloom.process.models import cannot_load, is_folder, model_location
from tarloom.process.paint.pass_rows import Painted, Wanted
from tarloom.process.paint.pipelines import arguments_of, check_told, is_text_to_image
from tarloom.process.paint.reach import Reach, reach_of
from tarloom.process.paint.stage import PaintStage

try:
    import diffusers
    import torch
    from transformers.utils import logging as transformers_logging
except ImportError as error:
    raise missing_extra("diffusers", error) from error

transformers_logging.disable_progress_bar()

CPU_PIXELS, CPU_ROWS = 128 * 128, 16
"""Of one pass on a CPU, at most: small pictures gain by company, larger ones do not and want memory. Fixed, like all
that could change the last bits."""
TRIAL_STEPS = 2
BLACKENED = ("nsfw_content_detected", "nsfw_detected", "watermark_detected")
"""What pipelines call the marks of pictures that their checkers have blackened."""
_PROMPT = re.compile(r"(negative_)?prompt(_\d+)?")
"""Texts that pipelines want as many of as there are rows: further ones are those of their other text encoders."""


class Painter:
    """Safe to use from several threads. Raises UsageError where the model cannot be loaded or told what it is told."""

    def __init__(self, stage: PaintStage) -> None:
        self._model, self._told = stage.model, stage.told()
        self._on_cpu = not torch.cuda.is_available()
        pipeline = _loaded(stage, on_cpu=self._on_cpu)
        self.reach: Reach | None = reach_of(pipeline.components, _most_tokens(pipeline, self._told))
        """None where prompts of any length are read whole."""
        seats = cpu_share() if self._on_cpu else 1
        self._seats: SimpleQueue[Any] = SimpleQueue()
        for _ in range(seats):
            self._seats.put(_beside(pipeline))
        if self._on_cpu:
            torch.set_num_threads(1)
        self._rows = self._pass_rows(self._trial(pipeline), stage.batch_size)
        self._threads = ThreadPoolExecutor(seats, thread_name_prefix="tarloom-paint")

    def __call__(self, wanted: Sequence[Wanted]) -> list[Painted]:
        """One for each, in order. Raises WorkerBroken where the model fails."""
        rows = self._rows
        parts = [wanted[start : start + rows] for start in range(0, len(wanted), rows)]
        return [painted for part in self._threads.map(self._part, parts) for painted in part]

    def close(self) -> None:
        """Free the model's memory. Once is enough."""
        self._threads.shutdown(cancel_futures=True)
        self._seats = SimpleQueue()
        if not self._on_cpu:
            torch.cuda.empty_cache()

    def _part(self, wanted: Sequence[Wanted]) -> list[Painted]:
        """By one pass, or, where it does not fit the memory, by several of half as many rows."""
        painted: list[Painted] = []
        pipeline = self._seats.get()
        try:
            while len(painted) < len(wanted):
                rows = self._rows
                try:
                    painted += self._pass(pipeline, wanted[len(painted) :][:rows], rows)
                except RuntimeError as error:
                    if not _out_of_memory(error):
                        raise WorkerBroken(f"the model failed: {error}") from error
                    painted += [Painted(pixels=None)] if rows == 1 else []
                    self._rows = min(self._rows, max(1, rows // 2))
                    torch.cuda.empty_cache()
        finally:
            self._seats.put(pipeline)
        return painted

    def _pass(self, pipeline: Any, wanted: Sequence[Wanted], rows: int) -> list[Painted]:
        empty = [Wanted(prompt="", seed=0)] * (rows - len(wanted))
        made = self._paint(pipeline, [*wanted, *empty], self._told)
        found = [marks for name in BLACKENED if (marks := getattr(made, name, None)) is not None]
        unsafe = [any(marks[row] for marks in found) for row in range(len(wanted))]
        return [Painted(pixels=made.images[row], unsafe=unsafe[row]) for row in range(len(wanted))]

    def _paint(self, pipeline: Any, wanted: Sequence[Wanted], told: dict[str, Any]) -> Any:
        """Noise comes from CPUs' generators, one a picture: theirs are the same on every machine."""
        told = {
            name: [value] * len(wanted) if isinstance(value, str) and _PROMPT.fullmatch(name) else value
            for name, value in told.items()
        }
        generators = [torch.Generator("cpu").manual_seed(each.seed) for each in wanted]
        return pipeline(prompt=[each.prompt for each in wanted], generator=generators, output_type="np", **told)

    def _trial(self, pipeline: Any) -> np.ndarray:
        """A picture of hardly any steps: what cannot work is said before there are rows. Raises UsageError."""
        steps = {"num_inference_steps": TRIAL_STEPS} if "num_inference_steps" in arguments_of(type(pipeline)) else {}
        try:
            pictures = self._paint(pipeline, [Wanted(prompt="", seed=0)], {**self._told, **steps}).images
        except Exception as error:  # of whatever the pipeline is made of
            raise cannot_load(self._model, error) from error
        if not isinstance(pictures, np.ndarray) or pictures.ndim != 4 or pictures.shape[-1] != 3:
            raise UsageError(f"{self._model}: makes no pictures in RGB; give a text-to-image pipeline")
        height, width, _ = pictures[0].shape
        asked = self._told.get("height", height), self._told.get("width", width)
        if asked != (height, width):
            raise UsageError(
                f"{self._model}: paints {height} x {width} pixels where {asked[0]} x {asked[1]} are asked for"
            )
        return np.asarray(pictures[0])

    def _pass_rows(self, picture: np.ndarray, batch_size: int) -> int:
        if not self._on_cpu:
            return batch_size
        pixels = int(picture.shape[0] * picture.shape[1])
        return max(1, min(CPU_ROWS, CPU_PIXELS // pixels))


def _loaded(stage: PaintStage, *, on_cpu: bool) -> Any:
    """The pipeline, on its device."""
    try:
        load: Any = diffusers.DiffusionPipeline.from_pretrained
        pipeline = load(
            model_location(stage.model),
            revision=stage.revision,
            variant=stage.variant,
            dtype=_dtype(stage.dtype, on_cpu=on_cpu),
            use_safetensors=True,
            local_files_only=is_folder(stage.model),
            trust_remote_code=stage.trust_remote_code,
        )
        if stage.scheduler is not None:
            pipeline.scheduler = getattr(diffusers, stage.scheduler).from_config(pipeline.scheduler.config)
        pipeline = pipeline.to("cpu" if on_cpu else "cuda")
    except Exception as error:  # of diffusers, transformers, safetensors or whatever else reads a part of it
        raise cannot_load(stage.model, error) from error
    if not is_text_to_image(type(pipeline)):
        raise UsageError(f"{stage.model}: {type(pipeline).__name__} is no text-to-image pipeline")
    check_told(stage, type(pipeline))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _dtype(name: str, *, on_cpu: bool) -> Any:
    if name != "auto":
        return getattr(torch, name)
    return torch.float32 if on_cpu else torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _beside(pipeline: Any) -> Any:
    """The same weights, with a scheduler and tokenizers of its own: they keep what they are in the middle of."""
    other = copy.copy(pipeline)
    for name, part in pipeline.components.items():
        if part is not None and not isinstance(part, torch.nn.Module):
            setattr(other, name, copy.deepcopy(part))
    return other


def _most_tokens(pipeline: Any, told: dict[str, Any]) -> int | None:
    most = told.get("max_sequence_length", arguments_of(type(pipeline)).get("max_sequence_length"))
    return most if isinstance(most, int) else None


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
