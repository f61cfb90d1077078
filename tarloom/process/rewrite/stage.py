"""Rewriting with a language model in vLLM: texts of a row become another text. No picture is read for it."""

from dataclasses import dataclass
from typing import ClassVar

from tarloom.errors import UsageError
from tarloom.process.caption.backend import Question
from tarloom.process.caption.language import LanguageStage
from tarloom.process.stage import StageWorker

_ASKED = "Rewrite this as a detailed prompt for a text-to-image model, and answer with the new prompt alone: {prompt}"


@dataclass(frozen=True, kw_only=True)
class RewriteStage(LanguageStage):
    """A text made of every row's texts: `text`, how it ended, its tokens, and what is wrong with it, as columns."""

    model: str = ""
    """A language model that vLLM knows: a folder, or a name on the Hugging Face hub. With --endpoint: the name that the
    server knows it by. If not given: Qwen/Qwen2.5-3B-Instruct where the run is started on a machine with an NVIDIA GPU,
    elsewhere HuggingFaceTB/SmolLM2-360M-Instruct."""
    prompt: str | tuple[str, ...] = _ASKED
    """What the model is asked about each row. {COLUMN} stands for what the row's metadata, a member (txt), a sidecar
    (caption.text) or a stage before this one has there, {{ for a brace; rows that have nothing there are skipped.
    Several at once: NAME=TEXT NAME=TEXT, whose columns are called NAME, NAME_truncated and so on."""
    max_num_seqs: int = 256
    """Rows that the engine works on at a time, or that a server is asked about at a time."""
    batch_size: int = 256
    """Rows handed to the engine at a time."""

    name: ClassVar[str] = "rewrite"
    members: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[str] = "1"
    model_for_gpu: ClassVar[str] = "Qwen/Qwen2.5-3B-Instruct"
    model_for_cpu: ClassVar[str] = "HuggingFaceTB/SmolLM2-360M-Instruct"
    calls: ClassVar[int] = 16
    """Batches side by side: small ones, since later stages may want few rows at a time, and the engine wants many."""

    @property
    def probe(self) -> Question:
        prompt = self.prompts[0]
        return Question(prompt=prompt.filled(dict.fromkeys(prompt.columns, "a grey picture")))

    @property
    def at_least(self) -> None:
        return None

    def check(self) -> None:
        """Raises UsageError for options that cannot work, prompts that name no column, or a model that is not there."""
        for prompt in self.prompts:
            if not prompt.columns:
                raise UsageError(
                    f"prompt {prompt.template!r}: names no column, so that all rows would be asked the same; "
                    "write {COLUMN} where a row's text belongs"
                )
        super().check()

    def open(self) -> StageWorker:
        from tarloom.process.rewrite.worker import RewriteWorker

        return RewriteWorker(self, self._backend())
