"""Captioning with a vision-language model in vLLM: what a user can choose."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tarloom.errors import UsageError
from tarloom.process.batch import AT_LEAST
from tarloom.process.caption.backend import Question, of_grey
from tarloom.process.caption.language import LanguageStage
from tarloom.process.stage import StageWorker


@dataclass(frozen=True, kw_only=True)
class CaptionStage(LanguageStage):
    """A caption for every picture: `text`, how it ended, its tokens, and what is wrong with it, as columns."""

    model: str = ""
    """A vision-language model that vLLM knows: a folder, or a name on the Hugging Face hub. With --endpoint: the name
    that the server knows it by. If not given: Qwen/Qwen2.5-VL-3B-Instruct where the run is started on a machine with an
    NVIDIA GPU, elsewhere HuggingFaceTB/SmolVLM-256M-Instruct."""
    prompt: str | tuple[str, ...] = "Describe the image."
    """What the model is asked about each picture. {COLUMN} stands for what the row's metadata or a sidecar has there,
    {{ for a brace. Several at once: NAME=TEXT NAME=TEXT, whose columns are called NAME, NAME_truncated and so on."""
    picture_first: bool = False
    """Put the picture before the text. Usually the text comes first, so that all pictures share its place in the
    engine's cache; where a model's template wants the picture first, that is found out."""
    max_pixels: int = 1_003_520
    """Larger pictures are made smaller before the model sees them; their aspect is kept."""
    max_num_seqs: int = 64
    """Pictures that the engine works on at a time, or that a server is asked about at a time."""
    batch_size: int = 256
    """Pictures decoded and handed to the engine at a time."""

    name: ClassVar[str] = "caption"
    version: ClassVar[str] = "2"
    model_for_gpu: ClassVar[str] = "Qwen/Qwen2.5-VL-3B-Instruct"
    model_for_cpu: ClassVar[str] = "HuggingFaceTB/SmolVLM-256M-Instruct"
    calls: ClassVar[int] = 4
    """Batches side by side: while the last captions of one are written, the engine works on the next."""

    @property
    def probe(self) -> Question:
        return of_grey(self.prompts[0].filled({}))

    @property
    def at_least(self) -> int:
        return max(AT_LEAST, math.ceil(math.sqrt(self.max_pixels)))

    def check(self) -> None:
        """Raises UsageError for options that cannot work or a model that is not there."""
        if self.max_pixels < 1:
            raise UsageError(f"max_pixels must be at least 1, not {self.max_pixels}")
        super().check()

    def fingerprint(self) -> Mapping[str, str]:
        return {
            **super().fingerprint(),
            "max_pixels": str(self.max_pixels),
            **({"picture_first": "True"} if self.picture_first else {}),
        }

    def open(self) -> StageWorker:
        from tarloom.process.caption.worker import CaptionWorker

        return CaptionWorker(self, self._backend())
