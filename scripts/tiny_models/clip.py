"""The CLIP: pictures and captions become vectors, alike where they belong together. Its eyes are the captioner's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer, CLIPModel

import tarloom

from .captioner import SIDE, pixels
from .training import Batch


class Clip:
    """See Lesson. architecture: the folder whose configuration and tokenizer the new model has; captioner: a trained
    one's folder."""

    columns: ClassVar[tuple[str, ...]] = ("jpg", "txt")
    decode: ClassVar[Mapping[str, Any]] = {"jpg": tarloom.Resize(SIDE), "txt": "text"}
    rate: ClassVar[float] = 1e-3

    def __init__(self, architecture: Path, captioner: Path) -> None:
        config = AutoConfig.from_pretrained(architecture)
        self.module = CLIPModel._from_config(config, dtype=torch.float32)
        self.module.vision_model.load_state_dict(_eyes(captioner), strict=False)
        self._tokenizer = AutoTokenizer.from_pretrained(architecture)

    def losses(self, batch: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See Lesson: both the contrastive one."""
        captions = batch["txt"]
        tokens = self._tokenizer(captions, padding=True, return_tensors="pt")
        alike = self.module(pixel_values=pixels(batch["jpg"]), **tokens).logits_per_image
        belong = _belong(captions)
        loss = (_cross_entropy(alike, belong) + _cross_entropy(alike.T, belong)) / 2
        return loss, loss

    def save(self, folder: Path) -> None:
        """See Lesson."""
        self.module.to(torch.bfloat16).save_pretrained(folder)


def _eyes(captioner: Path) -> dict[str, torch.Tensor]:
    """What the captioner's vision tower has in common with CLIP's: all but the class token and what is around it."""
    prefix = "model.vision_model."
    weights = load_file(captioner / "model.safetensors")
    eyes = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    return {name: value for name, value in eyes.items() if name.startswith("encoder.") or "patch_embedding.w" in name}


def _belong(captions: Sequence[str]) -> torch.Tensor:
    """Shares by which pictures (rows) and captions (columns) belong together: equal captions are equally right."""
    numbers = torch.tensor([captions.index(caption) for caption in captions])
    same = (numbers[:, None] == numbers[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)


def _cross_entropy(alike: torch.Tensor, belong: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(alike, belong)
