"""Answers by vLLM's AsyncLLM: questions of all threads are under way at once, and the engine batches them as it goes.

Here, in the worker's process, pictures are made into the model's input; the engine computes in a process of its own.
"""

import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count
from typing import Any

from tarloom.engines.base import WorkerBroken
from tarloom.errors import missing_extra
from tarloom.format.sidecar import FAILED
from tarloom.process.caption.backend import BROKEN_OFF, PROMPT_REFUSED, Question, Said
from tarloom.process.caption.background import Background
from tarloom.process.caption.child_output import ChildOutput
from tarloom.process.caption.language import LanguageStage
from tarloom.process.caption.structured import wrong_schema
from tarloom.process.models import cannot_load, model_location


@contextlib.contextmanager
def _without_notices() -> Iterator[None]:
    """vLLM and torch announce deprecations and what this machine lacks; errors still come through.

    A user who wants to hear it all sets VLLM_LOGGING_LEVEL.
    """
    before = logging.root.manager.disable
    if _quiet():
        logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _quiet() -> bool:
    return os.environ.get("VLLM_LOGGING_LEVEL") == "ERROR"


try:
    with _without_notices():
        import transformers
        from vllm import SamplingParams
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.exceptions import VLLMClientError
        from vllm.platforms import current_platform
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
        from vllm.v1.engine.async_llm import AsyncLLM

        from tarloom.process.caption.engine_process import PARENT, CaptionExecutor
        from tarloom.process.caption.vllm_inputs import TEXTS_KEPT, Inputs, grouped
except ImportError as error:
    raise missing_extra("vllm", error) from error

REFUSALS = (ValueError, VLLMClientError)
"""What vLLM raises for a request that it cannot take."""
LOOKS_SECONDS = 1.0
"""How often it is seen whether the engine lives, while it is waited for."""
CLOSING_SECONDS = 10.0


class VllmBackend:
    """Raises UsageError where the model cannot be loaded, or answers nothing."""

    def __init__(self, stage: LanguageStage) -> None:
        self._stage = stage
        self._numbers = count()
        self._sampling = lru_cache(TEXTS_KEPT)(self._sampling_for)
        self._output = ChildOutput(kept=not _quiet())
        self._background = Background("tarloom-vllm")
        self._maker = ThreadPoolExecutor(1, "tarloom-vllm-inputs")
        self._engine: Any = None
        try:
            self._engine = self._load()
            self._inputs = Inputs(self._engine.renderer, stage)
            self._probe()
        except BaseException:
            self.close()
            raise

    def ask(self, questions: Sequence[Question]) -> list[Said]:
        return self._background.do(self._answers(questions))

    def close(self) -> None:
        """Stop the engine. Whoever still waits for an answer gets WorkerBroken."""
        if self._background.stopped:
            return
        self._background.do(_end_all())
        if self._engine is not None:
            self._engine.shutdown(timeout=CLOSING_SECONDS)
            self._background.do(asyncio.sleep(0))  # the loop closes the sockets that it was told to
            self._engine.engine_core.resources.ctx.destroy(linger=0)
        self._maker.shutdown()
        self._background.stop()
        self._output.close()

    def _load(self) -> Any:
        multiprocessing.current_process().daemon = False  # a local engine's worker process, too, may have a child
        try:
            with _without_notices():
                config = AsyncEngineArgs(**engine_options(self._stage)).create_engine_config()
                os.environ[PARENT] = str(os.getpid())
                with self._output.of_children():
                    return AsyncLLM(
                        vllm_config=config, executor_class=CaptionExecutor, log_stats=False, log_requests=False
                    )
        except Exception as error:
            raise cannot_load(self._stage.model, self._output.reason() or error) from error

    def _probe(self) -> None:
        """A model that cannot answer the stage's probe answers nothing, and fails here, not row by row.

        A template that does not take the text first gets the picture first.
        """
        question = self._stage.probe
        try:
            try:
                self._background.do(self._one_word(question))
            except REFUSALS:
                if self._inputs.picture_first or question.rgb is None:
                    raise
                self._inputs.picture_first = True
                self._background.do(self._one_word(question))
            if question.rgb is not None:
                self._inputs.try_together(question.prompt)
        except Exception as error:
            raise cannot_load(self._stage.model, self._output.reason() or error) from error
        for question in self._stage.schema_probes:
            self._probe_schema(question)

    def _probe_schema(self, question: Question) -> None:
        """Raises UsageError for a schema that the engine does not take."""
        schema = json.dumps(question.schema)
        try:
            self._background.do(self._said(self._inputs.alone(question), self._sampling(schema)))
        except REFUSALS as error:
            raise wrong_schema(schema, f"vLLM does not take it: {error}") from error

    async def _one_word(self, question: Question) -> Said:
        return await self._said(self._inputs.alone(question), SamplingParams(max_tokens=1))

    async def _answers(self, questions: Sequence[Question]) -> list[Said]:
        tasks = [asyncio.create_task(self._answer(group)) for group in grouped(questions)]
        waiting = set(tasks)
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, timeout=LOOKS_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
                if self._engine.errored and waiting:
                    raise self._broken()
            return [said for task in tasks for said in task.result()]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, group: Sequence[Question]) -> list[Said]:
        made = await asyncio.get_running_loop().run_in_executor(self._maker, self._inputs.made, group)
        return await asyncio.gather(*(self._answer_to(*pair) for pair in zip(group, made, strict=True)))

    async def _answer_to(self, question: Question, made: Any) -> Said:
        if made is None:
            return Said(ending=(FAILED, PROMPT_REFUSED))
        schema = None if question.schema is None else json.dumps(question.schema)
        try:
            return await self._said(made, self._sampling(schema))
        except REFUSALS:
            return Said(ending=(FAILED, PROMPT_REFUSED))
        except Exception as error:
            raise self._broken(error) from error

    async def _said(self, made: Any, sampling: Any) -> Said:
        """Raises one of REFUSALS for what the engine does not take."""
        *_, last = [answer async for answer in self._engine.generate(made, sampling, str(next(self._numbers)))]
        return _said(last)

    def _sampling_for(self, schema: str | None) -> Any:
        structure = None if schema is None else StructuredOutputsParams(json=schema)
        return SamplingParams(
            **self._stage.sampling(), structured_outputs=structure, output_kind=RequestOutputKind.FINAL_ONLY
        )

    def _broken(self, error: Exception | None = None) -> WorkerBroken:
        why = self._output.reason() or (f"{type(error).__name__}: {error}" if error else "its process died")
        return WorkerBroken(f"the engine of {self._stage.model} failed: {why}")


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def engine_options(stage: LanguageStage) -> dict[str, Any]:
    """What vLLM is told, by its names."""
    location = model_location(stage.model)
    return {
        "model": location,
        "runner": "generate",
        "revision": stage.revision,
        "dtype": stage.dtype,
        "seed": stage.seed,
        "trust_remote_code": stage.trust_remote_code,
        "max_model_len": _length_limit(stage, location),
        "max_num_seqs": stage.max_num_seqs,
        "gpu_memory_utilization": stage.gpu_memory_utilization,
        "enforce_eager": current_platform.is_cpu(),
        "limit_mm_per_prompt": {"image": int(stage.probe.rgb is not None), "video": 0},
        "mm_processor_cache_gb": 0,  # every picture is seen once
        # Some models never stop indenting where they may.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "use_tqdm_on_load": False,
        "disable_log_stats": True,
    }


def _length_limit(stage: LanguageStage, location: str) -> int:
    config = transformers.AutoConfig.from_pretrained(
        location, revision=stage.revision, trust_remote_code=stage.trust_remote_code
    )
    own: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return min(stage.max_model_len, own) if own else stage.max_model_len


def _said(output: Any) -> Said:
    made = output.outputs[0]
    if made.finish_reason in BROKEN_OFF:  # by an engine that was told to stop, too
        raise RuntimeError(f"it broke off an answer ({made.finish_reason})")
    return Said(
        text=made.text.strip(),
        finish_reason=made.finish_reason,
        prompt_tokens=len(output.prompt_token_ids),
        output_tokens=len(made.token_ids),
    )
