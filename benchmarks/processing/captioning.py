"""Captioning: the whole street beside bare AsyncLLM, which is fed with pictures that are ready.

Both have the engine in a process of its own, the same options, and as many requests under way. The shipped captioner
takes about two milliseconds a picture, less than vLLM's own work around it; of a larger one of its kind, with random
weights, the model is what takes the time.
"""

import asyncio
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.processing.street import in_this_process, on, pictures_of
from tarloom.process.caption.stage import CaptionStage

MODEL = os.environ.get("BENCHMARK_CAPTIONER", "source_data/models/captioner")
LARGER = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8}
PROMPT = "Describe the image."
TOKENS = 16


def street(folder: str, model: str = MODEL) -> Iterator[int]:
    """Shards to sidecars in this process."""
    yield from in_this_process(folder, {"caption": _stage(model)})


def street_on_ray(folder: str, model: str = MODEL) -> Iterator[int]:
    """Shards to sidecars in a Ray actor."""
    from tarloom.engines.ray import RayEngine

    yield from on(RayEngine(1, cpus_per_worker=os.cpu_count() or 1), folder, {"caption": _stage(model)})


def bare(folder: str, model: str = MODEL) -> Iterator[int]:
    """AsyncLLM alone: pictures decoded and small before it starts, each side with the threads that suit it best: while
    making the input keeps a CPU busy, those that never spin; with the larger model, the street's."""
    if model == MODEL:
        os.environ.setdefault("GOMP_SPINCOUNT", "0")
    stage, shards = _stage(model), [[_ready(data) for data in shard] for shard in pictures_of(folder)]
    with asyncio.Runner() as runner:
        engine = runner.run(_engine(stage))
        runner.run(_ask(engine, stage, shards[0]))
        yield 0
        yield sum(runner.run(_ask(engine, stage, shard)) for shard in [[p for shard in shards[1:] for p in shard]])
        engine.shutdown()


@cache
def larger(folder: str) -> str:
    """A model folder beside the dataset, made once: as the shipped one, but larger, and untrained."""
    place = Path(folder).parent / "larger-captioner"
    if not place.exists():
        import torch
        from transformers import AutoConfig, AutoModelForImageTextToText

        config = AutoConfig.from_pretrained(MODEL)
        for part in (config.text_config, config.vision_config):
            part.update(LARGER)
            part.head_dim = LARGER["hidden_size"] // part.num_attention_heads
        torch.manual_seed(0)
        new = Path(shutil.copytree(MODEL, tempfile.mkdtemp(dir=place.parent), dirs_exist_ok=True))
        AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16).save_pretrained(new)
        new.rename(place)
    return str(place)


def larger_street(folder: str) -> Iterator[int]:
    """As street, with the larger model."""
    yield from street(folder, larger(folder))


def larger_street_on_ray(folder: str) -> Iterator[int]:
    """As street_on_ray, with the larger model."""
    yield from street_on_ray(folder, larger(folder))


def larger_bare(folder: str) -> Iterator[int]:
    """As bare, with the larger model."""
    yield from bare(folder, larger(folder))


def _stage(model: str) -> CaptionStage:
    return CaptionStage(model=model, prompt=PROMPT, max_tokens=TOKENS)


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
