"""Captions by a vLLM engine in this process, fed with pictures that are decoded and small already."""

import contextlib
import gc
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from tarloom.engines.base import WorkerBroken
from tarloom.errors import missing_extra
from tarloom.format.sidecar import FAILED
from tarloom.process.caption.backend import Question, Said
from tarloom.process.caption.stage import CaptionStage
from tarloom.process.models import cannot_load, model_location


@contextlib.contextmanager
def _without_notices() -> Iterator[None]:
    """vLLM and torch announce deprecations and what this machine lacks; errors still come through.

    A user who wants to hear it all sets VLLM_LOGGING_LEVEL.
    """
    before = logging.root.manager.disable
    if os.environ.get("VLLM_LOGGING_LEVEL") == "ERROR":
        logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


try:
    with _without_notices():
        import torch
        import transformers
        import vllm
        import vllm.exceptions
        from vllm.distributed import cleanup_dist_env_and_memory
        from vllm.platforms import current_platform
except ImportError as error:
    raise missing_extra("vllm", error) from error

PROBE_SIDE = 224
PROMPT_REFUSED = "prompt_refused"
"""The engine does not take this picture with this prompt: too long for the model, or of a shape it cannot see."""

REFUSALS = (ValueError, getattr(vllm.exceptions, "VLLMClientError", ValueError))
"""What vLLM raises for a request that it cannot take; of its own kind in newer versions."""

# On CPU this logger repeats for every request that torch's thread count stays as it is.
logging.getLogger("vllm.v1.worker.cpu_worker").setLevel(logging.ERROR)


class VllmBackend:
    """Answers by an engine of this process. Raises UsageError where the model cannot be loaded."""

    def __init__(self, stage: CaptionStage) -> None:
        self._stage = stage
        self._set_num_threads = torch.set_num_threads
        self._llm = _load(stage)
        self._sampling = vllm.SamplingParams(
            temperature=stage.temperature, max_tokens=stage.max_tokens, seed=stage.seed
        )
        self._probe()

    def ask(self, questions: Sequence[Question]) -> list[Said]:
        self._forget()
        return self._ask([_conversation(question) for question in questions])

    def close(self) -> None:
        """Stop the engine and leave torch as it was found."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        gc.collect()
        cleanup_dist_env_and_memory()
        torch.set_num_threads = self._set_num_threads

    def _ask(self, conversations: Sequence[list[dict[str, Any]]]) -> list[Said]:
        """Answers in order. If the engine refuses one of several, each is asked alone."""
        if not conversations:
            return []
        try:
            return [_answer(o) for o in self._llm.chat(list(conversations), self._sampling, use_tqdm=False)]
        except REFUSALS as error:
            if self._llm.llm_engine.has_unfinished_requests():
                raise self._broken(error) from error
            if len(conversations) == 1:
                return [Said(ending=(FAILED, PROMPT_REFUSED))]
            return [answer for conversation in conversations for answer in self._ask([conversation])]
        except Exception as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> WorkerBroken:
        """Requests may be left in the engine: their answers would be taken for those of the next batch."""
        return WorkerBroken(f"the engine of {self._stage.model} failed: {type(error).__name__}: {error}")

    def _probe(self) -> None:
        """Ask about one grey picture: a model that cannot answer that answers nothing, and fails here, not row by row.

        Raises UsageError.
        """
        grey = np.full((PROBE_SIDE, PROBE_SIDE, 3), 128, np.uint8)
        question = Question(rgb=grey, prompt=self._stage.prompt, uuid="grey")
        try:
            self._llm.chat([_conversation(question)], vllm.SamplingParams(max_tokens=1), use_tqdm=False)
        except REFUSALS as error:
            self.close()
            raise cannot_load(self._stage.model, error) from error

    def _forget(self) -> None:
        """Empty the engine's caches, so that a batch's captions do not depend on the batches before it."""
        self._llm.reset_prefix_cache()
        self._llm.llm_engine.reset_encoder_cache()


def _load(stage: CaptionStage) -> Any:
    location = model_location(stage.model)
    try:
        with _without_notices():
            return vllm.LLM(
                location,
                runner="generate",
                revision=stage.revision,
                dtype=stage.dtype,
                seed=stage.seed,
                trust_remote_code=stage.trust_remote_code,
                max_model_len=_length_limit(stage, location),
                max_num_seqs=stage.max_num_seqs,
                gpu_memory_utilization=stage.gpu_memory_utilization,
                enforce_eager=current_platform.is_cpu(),
                limit_mm_per_prompt={"image": 1},
                mm_processor_cache_gb=0,  # every picture is seen once
                use_tqdm_on_load=False,
            )
    except Exception as error:
        raise cannot_load(stage.model, error) from error


def _length_limit(stage: CaptionStage, location: str) -> int:
    config = transformers.AutoConfig.from_pretrained(
        location, revision=stage.revision, trust_remote_code=stage.trust_remote_code
    )
    own: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return min(stage.max_model_len, own) if own else stage.max_model_len


def _conversation(question: Question) -> list[dict[str, Any]]:
    """The text comes first: all pictures of a batch then share its place in the engine's cache."""
    image = {"type": "image_pil", "image_pil": Image.fromarray(question.rgb), "uuid": question.uuid}
    return [{"role": "user", "content": [{"type": "text", "text": question.prompt}, image]}]


def _answer(output: Any) -> Said:
    made = output.outputs[0]
    return Said(
        text=made.text.strip(),
        finish_reason=made.finish_reason,
        prompt_tokens=len(output.prompt_token_ids),
        output_tokens=len(made.token_ids),
    )
