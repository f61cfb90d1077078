"""Painting with a text-to-image pipeline of diffusers: what a user can choose.

A picture's noise comes from the run's seed and the row's key alone, so that a row has the same picture wherever, with
whatever neighbours and however often it is painted.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from tarloom.errors import MissingExtra, UsageError
from tarloom.process.models import check_model, model_identity
from tarloom.process.stage import Stage, StageWorker

VERSION = "1"
"""Of what this code makes of the options below; a change of pictures changes it."""
MODEL_FILE = "model_index.json"
"""Names the parts of a pipeline of diffusers."""
OUT_OF_MEMORY = "out_of_memory"
_ARGUMENT = re.compile(r"([A-Za-z_]\w*)=(.+)", re.DOTALL)
_QUALITIES = {"png": range(10), "jpg": range(101)}
_QUALITY = {"png": 3, "jpg": 95}
_FREE = ("model", "revision", "batch_size", "trust_remote_code", "encode_quality", "arguments")
"""Options that do not shape pictures, or are told otherwise in the fingerprint."""


@dataclass(frozen=True, kw_only=True)
class PaintStage(Stage):
    """A picture for every prompt: its bytes, width, height and seed, and the prompt that was painted, as columns."""

    model: str
    """A text-to-image pipeline of diffusers, with its weights as safetensors: a folder with a model_index.json, or a
    name on the Hugging Face hub."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""
    variant: str | None = None
    """Of the weights' files, where a model has several: fp16 for diffusion_pytorch_model.fp16.safetensors."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """What the model computes in; auto: float32 on a CPU, bfloat16 on a GPU."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Only for models you trust."""
    prompt_column: str = "prompt"
    """The column of prompts: of the rows, or of a stage before this one, such as rewrite.text."""
    negative_prompt: str | None = None
    """What no picture should show."""
    truncate_prompts: bool = False
    """Cut prompts that are longer than the model can read; without it their rows fail as prompt_too_long."""
    steps: int | None = None
    """Denoising steps; if not given, as many as the pipeline takes by itself, often 50."""
    guidance: float | None = None
    """How closely pictures keep to their prompts; if not given, the pipeline's own value. 1: no guidance."""
    width: int | None = None
    """Pixels; with height, or what the model was trained for."""
    height: int | None = None
    """Pixels; with width, or what the model was trained for."""
    scheduler: str | None = None
    """Another scheduler of diffusers, with the settings of the model's own: such as EulerDiscreteScheduler."""
    arguments: tuple[str, ...] = ()
    """Whatever else the pipeline can be told, as NAME=VALUE, the value in JSON: such as clip_skip=1."""
    upscale: int = 1
    """Make pictures so many times wider and higher, bicubically, once they are painted."""
    encode_format: Literal["png", "jpg"] = "png"
    """Of the pictures in the shards."""
    encode_quality: int | None = None
    """JPEG: 0 to 100, 95 if not given. PNG: compression, 0 to 9, 3 if not given."""
    seed: int = 0
    """Of the run: with its key it decides a row's picture."""
    batch_size: int = 16
    """Pictures in one pass of the model on a GPU; where they do not fit its memory, half as many. On a CPU so many are
    handed over at a time: passes are as small as is best there, as many side by side as there are cores."""

    name: ClassVar[str] = "paint"
    members: ClassVar[tuple[str, ...]] = ()
    calls: ClassVar[int] = 2
    """While the pictures of one batch are encoded and written, those of the next are painted."""
    transient: ClassVar[frozenset[str]] = frozenset({OUT_OF_MEMORY})

    @property
    def batch_rows(self) -> int:
        """A pass at a time: half a one is no faster."""
        return self.batch_size

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.prompt_column,)

    @property
    def at_least(self) -> None:
        return None

    @property
    def quality(self) -> int:
        """Of the encoder."""
        return _QUALITY[self.encode_format] if self.encode_quality is None else self.encode_quality

    def told(self) -> dict[str, Any]:
        """What the pipeline is told beside prompts and seeds, by its own names. Raises UsageError."""
        named = {
            "negative_prompt": self.negative_prompt,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "width": self.width,
            "height": self.height,
        }
        return {name: value for name, value in named.items() if value is not None} | self._arguments()

    def check(self) -> None:
        """Raises UsageError for options that cannot work, and for a model that is none for text to image."""
        for option in ("batch_size", "steps", "width", "height", "upscale"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise UsageError(f"{option} must be at least 1, not {value}")
        if (self.width is None) != (self.height is None):
            raise UsageError("of width and height one alone is given, which pipelines ignore; give both")
        if self.quality not in _QUALITIES[self.encode_format]:
            most = _QUALITIES[self.encode_format][-1]
            raise UsageError(f"encode_quality of {self.encode_format} is 0 to {most}, not {self.quality}")
        self._arguments()
        check_model(self.model, revision=self.revision, file=MODEL_FILE)
        try:
            from tarloom.process.paint.pipelines import check_pipeline
        except MissingExtra:
            return  # it need not be installed here, but where the workers are: they check, too
        check_pipeline(self)

    def fingerprint(self) -> Mapping[str, str]:
        options = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _FREE}
        return {
            "stage": "paint",
            "version": VERSION,
            "model": model_identity(self.model, revision=self.revision),
            "encode_quality": str(self.quality),
            **{name: str(value) for name, value in options.items() if value is not None},
            **{f"argument {name}": json.dumps(value) for name, value in sorted(self._arguments().items())},
        }

    def open(self) -> StageWorker:
        from tarloom.process.paint.worker import PaintWorker

        return PaintWorker(self)

    def _arguments(self) -> dict[str, Any]:
        return dict(map(_argument, self.arguments))


def picture_seed(seed: int, key: str) -> int:
    """Of a row's noise: 53 bits, which every reader of JSON keeps exactly."""
    digest = hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 11


def _argument(text: str) -> tuple[str, Any]:
    named = _ARGUMENT.fullmatch(text)
    if named is None:
        raise UsageError(f"arguments {text!r}: write NAME=VALUE, such as clip_skip=1")
    try:
        return named[1], json.loads(named[2])
    except ValueError as error:
        raise UsageError(f"arguments {text!r}: the value is no JSON ({error}); put texts into quotes") from error
