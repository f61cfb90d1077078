"""Captioning with a vision-language model in vLLM: what a user can choose."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from tarloom.errors import UsageError
from tarloom.format.cpus import cpu_share
from tarloom.process.batch import AT_LEAST
from tarloom.process.caption.backend import Backend
from tarloom.process.caption.server import ServerOptions
from tarloom.process.models import check_model, model_identity
from tarloom.process.stage import Stage, StageWorker

VERSION = "1"
"""Of what this code makes of the options below; a change of outputs changes it."""


@dataclass(frozen=True, kw_only=True)
class CaptionStage(ServerOptions, Stage):
    """A caption for every picture: columns `text`, `finish_reason`, `prompt_tokens` and `output_tokens`."""

    model: str
    """A vision-language model that vLLM knows: a folder, or a name on the Hugging Face hub. With --endpoint: the name
    that the server knows it by."""
    prompt: str = "Describe the image."
    """What the model is asked about each picture."""
    max_tokens: int = 128
    """A caption ends after so many tokens."""
    temperature: float = 0.0
    """0 takes the likeliest token each time, so that captions can be repeated."""
    seed: int = 0
    """Of the sampling, where the temperature is above 0."""
    max_pixels: int = 1_003_520
    """Larger pictures are made smaller before the model sees them; their aspect is kept."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """What the model computes in; auto: as its weights are stored."""
    max_model_len: int = 4096
    """Tokens of prompt, picture and caption together; a model's own limit holds where it is less."""
    max_num_seqs: int = 64
    """Pictures that the engine works on at a time, or that a server is asked about at a time."""
    gpu_memory_utilization: float = 0.9
    """Share of a GPU's memory that the engine may use."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Only for models you trust."""
    batch_size: int = 256
    """Pictures decoded and handed to the engine at a time."""

    name: ClassVar[str] = "caption"

    @property
    def at_least(self) -> int:
        return max(AT_LEAST, math.ceil(math.sqrt(self.max_pixels)))

    def check(self) -> None:
        """Raises UsageError for options that cannot work or a model that is not there."""
        if not self.prompt.strip():
            raise UsageError(
                "the prompt is empty; say what the model should do, such as --prompt 'Describe the image.'"
            )
        for option in ("max_tokens", "max_pixels", "max_model_len", "max_num_seqs", "batch_size"):
            if getattr(self, option) < 1:
                raise UsageError(f"{option} must be at least 1, not {getattr(self, option)}")
        if self.temperature < 0:
            raise UsageError(f"temperature must be at least 0, not {self.temperature}")
        self.check_server()
        if self.endpoint is None:
            check_model(self.model, revision=self.revision)

    def fingerprint(self) -> Mapping[str, str]:
        asked = self._engine() if self.endpoint is None else {"model": self.model}
        return {
            "stage": "caption",
            "version": VERSION,
            "backend": self.answers,
            **asked,
            "prompt": self.prompt,
            "max_tokens": str(self.max_tokens),
            "temperature": str(self.temperature),
            "seed": str(self.seed),
            "max_pixels": str(self.max_pixels),
        }

    def _engine(self) -> dict[str, str]:
        """What of its output is up to this machine, and not to a server."""
        return {
            "model": model_identity(self.model, revision=self.revision),
            "max_model_len": str(self.max_model_len),
            "dtype": self.dtype,
        }

    def open(self) -> StageWorker:
        from tarloom.process.caption.worker import CaptionWorker

        return CaptionWorker(self, self._backend())

    def _backend(self) -> Backend:
        if self.answers == "endpoint":
            from tarloom.process.caption.with_endpoint import EndpointBackend

            return EndpointBackend(self)
        _prepare_environment()
        from tarloom.process.caption.with_vllm import VllmBackend

        return VllmBackend(self)


def _prepare_environment() -> None:
    """Variables that vLLM reads as it is imported. Whatever the user has set stays."""
    wanted = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process: loads faster, schedules repeatably
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    if cpu_share() < (os.cpu_count() or 1):
        # vLLM would bind its threads to all CPUs, and several workers would share the first few of them.
        wanted |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(cpu_share())}
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
