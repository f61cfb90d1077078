"""Embedding: the whole street beside a bare loop that decodes and embeds, with the same threads.

The model has the shape of CLIP ViT-B/32 and random weights: large enough to be what takes the time.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from benchmarks.processing.street import in_this_process, on, pictures_of
from tarloom.process.embed.stage import EmbedStage

SHIPPED = Path(__file__).resolve().parents[2] / "source_data/models/clip"
PASS = 16
"""Pictures in one forward pass: as many as the stage gives a CPU."""


def street(folder: str) -> Iterator[int]:
    """Shards to sidecars in this process."""
    yield from in_this_process(folder, {"bench": EmbedStage(model=vit_b_32(folder))})


def street_on_ray(folder: str) -> Iterator[int]:
    """Shards to sidecars in a Ray actor."""
    from tarloom.engines.ray import RayEngine

    cpus = os.cpu_count() or 1
    yield from on(RayEngine(1, cpus_per_worker=cpus), folder, {"bench": EmbedStage(model=vit_b_32(folder))})


def bare(folder: str) -> Iterator[int]:
    """Decode and embed what is in memory, nothing else: a thread a CPU, each with passes of its own."""
    import torch
    from transformers import AutoImageProcessor, AutoModel

    torch.set_num_threads(1)
    place = vit_b_32(folder)
    model, processor = AutoModel.from_pretrained(place).eval(), AutoImageProcessor.from_pretrained(place)
    first, *others = pictures_of(folder)
    with ThreadPoolExecutor(os.cpu_count()) as threads:

        def embed(pictures: list[bytes]) -> int:
            passes = [pictures[start : start + PASS] for start in range(0, len(pictures), PASS)]
            return sum(len(vectors) for vectors in threads.map(lambda p: _vectors(model, processor, p), passes))

        embed(first)
        yield 0
        yield sum(map(embed, others))


def _vectors(model: Any, processor: Any, pictures: list[bytes]) -> np.ndarray:
    """float16 of shape (pictures, dim)."""
    import torch

    decoded = [simplejpeg.decode_jpeg(data) for data in pictures]
    pixels = processor(decoded, input_data_format="channels_last", return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        features = model.get_image_features(pixels)
        vectors = getattr(features, "pooler_output", features)
        return (vectors / vectors.norm(dim=-1, keepdim=True)).half().numpy()


@cache
def vit_b_32(folder: str) -> str:
    """A model folder beside the dataset, made once: the default configuration of CLIP is that of ViT-B/32."""
    place = Path(folder).parent / "vit-b-32"
    if not place.exists():
        from transformers import CLIPConfig, CLIPModel

        new = Path(tempfile.mkdtemp(dir=place.parent))
        CLIPModel(CLIPConfig()).save_pretrained(new)
        for file in SHIPPED.iterdir():
            if not (new / file.name).exists() and file.name != "model.safetensors":
                shutil.copy(file, new)
        _sees_224(new)
        new.rename(place)
    return str(place)


def _sees_224(folder: Path) -> None:
    from transformers import CLIPImageProcessor

    CLIPImageProcessor().save_pretrained(folder)
