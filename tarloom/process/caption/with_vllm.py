"""The captioner's worker: a vLLM engine in this process, fed with pictures that are decoded and small already."""

import contextlib
import gc
import hashlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from PIL import Image

from tarloom.engines.base import WorkerBroken
from tarloom.errors import missing_extra
from tarloom.format.sidecar import FAILED, SUCCESS
from tarloom.process.batch import Batch, Picture, shrink
from tarloom.process.caption.stage import CaptionStage
from tarloom.process.models import cannot_load, model_location
from tarloom.process.stage import result_table


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

_COLUMNS: dict[str, pa.DataType] = {
    "text": pa.string(),
    "finish_reason": pa.string(),
    "prompt_tokens": pa.int32(),
    "output_tokens": pa.int32(),
}

REFUSALS = (ValueError, getattr(vllm.exceptions, "VLLMClientError", ValueError))
"""What vLLM raises for a request that it cannot take; of its own kind in newer versions."""

# On CPU this logger repeats for every request that torch's thread count stays as it is.
logging.getLogger("vllm.v1.worker.cpu_worker").setLevel(logging.ERROR)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of one picture."""

    text: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    ending: tuple[str, str | None] = (SUCCESS, None)


class Captioner:
    """Answers batches with captions. Raises UsageError where the model cannot be loaded."""

    columns: ClassVar[pa.Schema] = pa.schema(_COLUMNS)

    def __init__(self, stage: CaptionStage) -> None:
        self._stage = stage
        self._set_num_threads = torch.set_num_threads
        self._llm = _load(stage)
        self._sampling = vllm.SamplingParams(
            temperature=stage.temperature, max_tokens=stage.max_tokens, seed=stage.seed
        )
        self._probe()

    def __call__(self, batch: Batch) -> pa.Table:
        pictures = batch.pictures(self._stage.at_least)
        answers = [Answer(ending=picture.ending) for picture in pictures]
        rows = [row for row, picture in enumerate(pictures) if picture.rgb is not None]
        self._forget()
        for row, answer in zip(
            rows, self._ask([_conversation(self._stage, pictures[row]) for row in rows]), strict=True
        ):
            answers[row] = answer
        columns = self.columns
        values = {field.name: pa.array([getattr(a, field.name) for a in answers], field.type) for field in columns}
        return result_table(columns, keys=batch.keys, values=values, endings=[answer.ending for answer in answers])

    def close(self) -> None:
        """Stop the engine and leave torch as it was found."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        gc.collect()
        cleanup_dist_env_and_memory()
        torch.set_num_threads = self._set_num_threads

    def _ask(self, conversations: Sequence[list[dict[str, Any]]]) -> list[Answer]:
        """Answers in order. If the engine refuses one of several, each is asked alone."""
        if not conversations:
            return []
        try:
            return [_answer(o) for o in self._llm.chat(list(conversations), self._sampling, use_tqdm=False)]
        except REFUSALS as error:
            if self._llm.llm_engine.has_unfinished_requests():
                raise self._broken(error) from error
            if len(conversations) == 1:
                return [Answer(ending=(FAILED, PROMPT_REFUSED))]
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
        grey = Picture(rgb=np.full((PROBE_SIDE, PROBE_SIDE, 3), 128, np.uint8))
        try:
            self._llm.chat([_conversation(self._stage, grey)], vllm.SamplingParams(max_tokens=1), use_tqdm=False)
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


def _conversation(stage: CaptionStage, picture: Picture) -> list[dict[str, Any]]:
    """The text comes first: all pictures of a batch then share its place in the engine's cache."""
    assert picture.rgb is not None
    image = {
        "type": "image_pil",
        "image_pil": Image.fromarray(shrink(picture.rgb, stage.max_pixels)),
        "uuid": hashlib.blake2b(picture.data, digest_size=16).hexdigest(),  # spares vLLM hashing all pixels
    }
    return [{"role": "user", "content": [{"type": "text", "text": stage.prompt}, image]}]


def _answer(output: Any) -> Answer:
    made = output.outputs[0]
    return Answer(
        text=made.text.strip(),
        finish_reason=made.finish_reason,
        prompt_tokens=len(output.prompt_token_ids),
        output_tokens=len(made.token_ids),
    )
