"""Answers by vLLM's AsyncLLM: questions of all threads are under way at once, and the engine batches them as it goes.

Here, in the worker's process, pictures are made into the model's input; the engine computes in a process of its own.
"""

import asyncio
import contextlib
import copy
import json
import logging
import multiprocessing
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np
from PIL import Image

from tarloom.engines.base import WorkerBroken
from tarloom.errors import missing_extra
from tarloom.format.sidecar import FAILED
from tarloom.process.caption.backend import PROMPT_REFUSED, Question, Said
from tarloom.process.caption.background import Background
from tarloom.process.caption.child_output import ChildOutput
from tarloom.process.caption.language import LanguageStage
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
        from transformers.image_processing_backends import TorchvisionBackend
        from vllm import SamplingParams
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.exceptions import VLLMClientError
        from vllm.platforms import current_platform
        from vllm.renderers.params import ChatParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
        from vllm.v1.engine.async_llm import AsyncLLM

        from tarloom.process.caption.engine_process import PARENT, CaptionExecutor
except ImportError as error:
    raise missing_extra("vllm", error) from error

REFUSALS = (ValueError, VLLMClientError)
"""What vLLM raises for a request that it cannot take."""
LOOKS_SECONDS = 1.0
"""How often it is seen whether the engine lives, while it is waited for."""
CLOSING_SECONDS = 10.0
TEXTS_KEPT = 1024
FEW_LINES = 4


class VllmBackend:
    """Raises UsageError where the model cannot be loaded, or answers nothing."""

    def __init__(self, stage: LanguageStage) -> None:
        self._stage = stage
        self._picture_first = stage.picture_first
        self._numbers = count()
        self._sampling = lru_cache(TEXTS_KEPT)(self._sampling_for)
        self._rendered = lru_cache(TEXTS_KEPT)(self._render)
        self._output = ChildOutput(kept=not _quiet())
        self._background = Background("tarloom-vllm")
        self._engine: Any = None
        try:
            self._engine = self._load()
            self._takes_pixels = takes_pixels(self._engine.renderer.mm_processor)
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
                if self._picture_first or question.rgb is None:
                    raise
                self._picture_first = True
                self._rendered.cache_clear()
                self._background.do(self._one_word(question))
        except Exception as error:
            raise cannot_load(self._stage.model, self._output.reason() or error) from error

    async def _one_word(self, question: Question) -> Said:
        return await self._said(await self._ready(question), SamplingParams(max_tokens=1))

    async def _answers(self, questions: Sequence[Question]) -> list[Said]:
        tasks = [asyncio.create_task(self._answer(question)) for question in questions]
        waiting = set(tasks)
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, timeout=LOOKS_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
                if self._engine.errored and waiting:
                    raise self._broken()
            return [task.result() for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, question: Question) -> Said:
        try:
            ready = await self._ready(question)
        except Exception as error:  # the probe was made ready: it is this one's fault, or its prompt's
            if self._engine.errored:
                raise self._broken(error) from error
            return Said(ending=(FAILED, PROMPT_REFUSED))
        schema = None if question.schema is None else json.dumps(question.schema)
        try:
            return await self._said(ready, self._sampling(schema))
        except REFUSALS:
            return Said(ending=(FAILED, PROMPT_REFUSED))
        except Exception as error:
            raise self._broken(error) from error

    async def _ready(self, question: Question) -> Any:
        """What the engine is given: tokens and the picture as the model takes it."""
        prompt = copy.copy(self._rendered(question.prompt, question.rgb is not None))
        if question.rgb is not None:
            prompt["multi_modal_data"] = {"image": [self._shown(question.rgb)]}
            prompt["multi_modal_uuids"] = {"image": [question.uuid]}  # spares vLLM hashing all pixels
        renderer = self._engine.renderer
        return await renderer.process_for_engine_async(prompt, time.time(), tok_params=renderer.default_chat_tok_params)

    def _shown(self, rgb: np.ndarray) -> Any:
        """As the model's processor takes it: those of transformers that compute in torch make the same of pixels as of
        a picture, without copying them twice. They would take few lines for channels, and warn of memory that is not
        to be written to."""
        plain = self._takes_pixels and rgb.shape[0] > FEW_LINES and rgb.flags.writeable
        return rgb if plain else Image.fromarray(rgb)

    async def _said(self, ready: Any, sampling: Any) -> Said:
        """Raises one of REFUSALS for what the engine does not take."""
        *_, last = [answer async for answer in self._engine.generate(ready, sampling, str(next(self._numbers)))]
        return _said(last)

    def _render(self, text: str, with_picture: bool) -> dict[str, Any]:
        """The prompt's tokens as the model's template has them: the same for all pictures that are asked it."""
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        if with_picture:
            image = {"type": "image_pil", "image_pil": Image.new("RGB", (32, 32)), "uuid": "any"}
            content.insert(0 if self._picture_first else 1, image)
        messages = [{"role": "user", "content": content}]
        params = ChatParams(
            chat_template=self._stage.chat_template,
            chat_template_kwargs={"add_generation_prompt": True, "continue_final_message": False},
        )
        renderer = self._engine.renderer
        _, prompt = renderer.render_messages(messages, params)
        return dict(renderer.tokenize_prompt(prompt, renderer.default_chat_tok_params))

    def _sampling_for(self, schema: str | None) -> Any:
        structure = None if schema is None else StructuredOutputsParams(json=schema)
        return SamplingParams(
            **self._stage.sampling(), structured_outputs=structure, output_kind=RequestOutputKind.FINAL_ONLY
        )

    def _broken(self, error: Exception | None = None) -> WorkerBroken:
        why = self._output.reason() or (f"{type(error).__name__}: {error}" if error else "its process died")
        return WorkerBroken(f"the engine of {self._stage.model} failed: {why}")


def takes_pixels(maker: Any) -> bool:
    """Whether the model's input is made of pictures by one of transformers' own processors that compute in torch."""
    if maker is None:
        return False
    kind: type[Any] = type(getattr(maker.info.get_hf_processor(), "image_processor", None))
    return issubclass(kind, TorchvisionBackend) and kind.process_image is TorchvisionBackend.process_image


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
    return Said(
        text=made.text.strip(),
        finish_reason=made.finish_reason,
        prompt_tokens=len(output.prompt_token_ids),
        output_tokens=len(made.token_ids),
    )
