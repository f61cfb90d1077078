"""A backend on ray.data.llm: the stages of its vLLM processor, built once in the worker's Ray actor.

Ray applies a processor to a dataset; a dataset per batch would load the model per batch, so batches are handed to the
processor's stages one after the other here. Pictures go to the engine as they are: the stage with which Ray would
prepare them needs modules that vLLM has moved since the version that Ray pins, and pickles every picture.
"""

import json
from collections.abc import Sequence
from typing import Any

from PIL import Image

from tarloom.engines.base import WorkerBroken
from tarloom.errors import UsageError, missing_extra
from tarloom.format.sidecar import FAILED
from tarloom.process.caption.backend import PROMPT_REFUSED, Question, Said
from tarloom.process.caption.background import Background
from tarloom.process.caption.language import LanguageStage
from tarloom.process.caption.structured import wrong_schema
from tarloom.process.models import cannot_load, model_location

try:
    import ray
    import vllm
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    from tarloom.process.caption.with_vllm import engine_options
except ImportError as error:
    raise missing_extra("ray,vllm", error) from error

DATA = "__data"
"""Where Ray's stages look for the rows of a batch."""
ERROR = "__inference_error__"
REFUSALS = ("ValueError", "VLLMValidationError", "VLLMUnprocessableEntityError")
"""Kinds of errors, by which a row's error begins, that say that vLLM does not take this request."""


class RayLlmBackend:
    """Answers by the stages of ray.data.llm. Raises UsageError outside of Ray's actors, or where they cannot run.

    A dead engine ends the whole process, as Ray has it: the shard is tried again by another actor.
    """

    def __init__(self, stage: LanguageStage) -> None:
        _check_place()
        self._stage = stage
        self._background = Background("tarloom-ray-llm")
        self._steps: list[Any] = []
        try:
            self._steps = _steps(stage)
            self._probe()
        except UsageError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise _cannot_run(stage, error) from error

    def ask(self, questions: Sequence[Question]) -> list[Said]:
        """Answers in order."""
        try:
            rows = self._background.do(self._through([self._row(question) for question in questions]))
        except Exception as error:
            raise WorkerBroken(f"ray.data.llm failed: {type(error).__name__}: {error}") from error
        return [self._said(row) for row in rows]

    def close(self) -> None:
        """The engine's process ends with its stage."""
        if not self._background.stopped:
            self._steps.clear()
            self._background.stop()

    async def _through(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for step in self._steps if rows else ():
            async for answer in step({DATA: rows}):
                rows = answer[DATA]
        return rows

    def _row(self, question: Question) -> dict[str, Any]:
        sampling = self._stage.sampling()
        if question.schema is not None:
            sampling["structured_outputs"] = {"json": question.schema}
        if question.rgb is None:
            return {"messages": [{"role": "user", "content": question.prompt}], "sampling_params": sampling}
        text, picture = {"type": "text", "text": question.prompt}, {"type": "image"}
        content = [picture, text] if self._stage.picture_first else [text, picture]
        return {
            "messages": [{"role": "user", "content": content}],
            "multimodal_data": {"image": [Image.fromarray(question.rgb)]},
            "multimodal_uuids": {"image": [question.uuid]},
            "sampling_params": sampling,
        }

    def _said(self, row: dict[str, Any]) -> Said:
        failure = row.get(ERROR)
        if failure:
            if not failure.startswith(REFUSALS):
                raise WorkerBroken(f"ray.data.llm failed: {failure}")
            return Said(ending=(FAILED, PROMPT_REFUSED))
        tokens = row["num_generated_tokens"]
        return Said(
            text=row["generated_text"].strip(),
            finish_reason="length" if tokens >= self._stage.max_tokens else "stop",  # Ray does not pass on vLLM's
            prompt_tokens=row["num_input_tokens"],
            output_tokens=tokens,
        )

    def _probe(self) -> None:
        (said,) = self.ask([self._stage.probe])
        if said.text is None:
            raise ValueError("it does not answer a question that only tells if it does")
        for question in self._stage.schema_probes:
            (said,) = self.ask([question])
            if said.text is None:
                raise wrong_schema(json.dumps(question.schema), "vLLM does not take it; the same without Ray says why")


def _check_place() -> None:
    if not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        raise UsageError("--backend ray-llm runs in Ray's actors; add --engine ray, or leave --backend out")


def _steps(stage: LanguageStage) -> list[Any]:
    """What Ray would build in actors of their own, one for each stage of its processor."""
    config = vLLMEngineProcessorConfig(
        model_source=model_location(stage.model),
        batch_size=stage.batch_size,
        engine_kwargs=_engine_options(stage),
        chat_template_stage={"enabled": True, "chat_template": stage.chat_template},
        tokenize_stage=False,
        detokenize_stage=False,
        should_continue_on_error=True,
        log_engine_metrics=False,
    )
    steps = build_processor(config).stages.values()
    return [step.fn(**_made_with(step, stage.batch_size)) for step in steps]


def _made_with(step: Any, batch_size: int) -> dict[str, Any]:
    made: dict[str, Any] = step.get_dataset_map_batches_kwargs(batch_size=batch_size, data_column=DATA)
    return dict(made["fn_constructor_kwargs"])


def _engine_options(stage: LanguageStage) -> dict[str, Any]:
    """As for an engine of our own; Ray names the model itself."""
    return {name: value for name, value in engine_options(stage).items() if name not in ("model", "revision")}


def _cannot_run(stage: LanguageStage, error: Exception) -> UsageError:
    reason = cannot_load(stage.model, error)
    return UsageError(
        f"ray.data.llm of Ray {ray.__version__} cannot run this with vLLM {vllm.__version__}, or {reason}; "
        "leave --backend out to use vLLM without Ray's processor"
    )
