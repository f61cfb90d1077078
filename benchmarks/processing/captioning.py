"""Captioning: the whole street beside bare AsyncLLM, which is fed with pictures that are ready.

Both have the engine in a process of its own, the same options, and as many requests under way.
"""

import asyncio
import io
import os
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from benchmarks.processing.street import in_this_process, on, pictures_of
from tarloom.process.caption.stage import CaptionStage

MODEL = os.environ.get("BENCHMARK_CAPTIONER", "source_data/models/captioner")
PROMPT = "Describe the image."
TOKENS = 16


def street(folder: str) -> Iterator[int]:
    """Shards to sidecars in this process."""
    yield from in_this_process(folder, {"caption": _stage()})


def street_on_ray(folder: str) -> Iterator[int]:
    """Shards to sidecars in a Ray actor."""
    from tarloom.engines.ray import RayEngine

    yield from on(RayEngine(1, cpus_per_worker=os.cpu_count() or 1), folder, {"caption": _stage()})


def bare(folder: str) -> Iterator[int]:
    """AsyncLLM alone: pictures decoded and small before it starts."""
    stage, shards = _stage(), [[_ready(data) for data in shard] for shard in pictures_of(folder)]
    with asyncio.Runner() as runner:
        engine = runner.run(_engine(stage))
        runner.run(_ask(engine, stage, shards[0]))
        yield 0
        yield sum(runner.run(_ask(engine, stage, shard)) for shard in [[p for shard in shards[1:] for p in shard]])
        engine.shutdown()


def _stage() -> CaptionStage:
    return CaptionStage(model=MODEL, prompt=PROMPT, max_tokens=TOKENS)


def _ready(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


async def _engine(stage: CaptionStage) -> Any:
    from tarloom.process.caption.environment import prepare_environment

    prepare_environment()
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    from tarloom.process.caption.with_vllm import engine_options

    return AsyncLLM.from_engine_args(AsyncEngineArgs(**engine_options(stage)))


async def _ask(engine: Any, stage: CaptionStage, pictures: Sequence[Image.Image]) -> int:
    """All of them, at most as many at a time as the street has under way."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    sampling = SamplingParams(temperature=0, max_tokens=TOKENS, output_kind=RequestOutputKind.FINAL_ONLY)
    tokenizer = engine.get_tokenizer()
    content = [{"type": "text", "text": stage.prompt}, {"type": "image"}]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    seats = asyncio.Semaphore(stage.batch_size)

    async def one(picture: Image.Image) -> None:
        async with seats:
            request = {
                "prompt": prompt,
                "multi_modal_data": {"image": picture},
                "multi_modal_uuids": {"image": uuid.uuid4().hex},
            }
            async for _ in engine.generate(request, sampling, uuid.uuid4().hex):
                pass

    await asyncio.gather(*(one(picture) for picture in pictures))
    return len(pictures)
