"""The captioner: Idefics3 (SmolVLM's), asked about a picture with one of many prompts, answers with its caption."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import AutoConfig, AutoProcessor, Idefics3ForConditionalGeneration

import tarloom
from source_data.scenes import KINDS

from .training import Batch

SIDE = 64
"""Of a picture, in pixels, as both models see it."""
PROMPTS = (
    "Describe the image.",
    "Describe the image in detail.",
    "Describe this picture.",
    "Describe what you see.",
    "Caption this image.",
    "Write a caption for the picture.",
    "What is in this image?",
    "What do you see?",
    "What does the photo show?",
    "Give a short description of the image.",
    "Give a detailed caption.",
    "Can you describe this photo in one sentence?",
    "Please tell me what is shown here.",
    "A caption, please.",
)
SPREAD = 0.06
"""Of new weights. The configuration's 0.02 is for wider models: so narrow a one learns but slowly from that."""
PATCHES_WEIGH = 2.0
"""Of the second head's loss. It says what lies under every patch, so that the eyes learn before the mouth."""
UNANSWERED = -100
"""No loss for these tokens, by transformers' convention."""


class Captioner:
    """See Lesson. architecture: the folder whose configuration and tokenizer the new model has."""

    columns: ClassVar[tuple[str, ...]] = ("jpg", "txt", "json")
    decode: ClassVar[Mapping[str, Any]] = {"jpg": tarloom.Resize(SIDE), "txt": "text", "json": "json"}
    rate: ClassVar[float] = 1e-3

    def __init__(self, architecture: Path) -> None:
        config = AutoConfig.from_pretrained(architecture)
        config.vision_config.initializer_range = config.text_config.initializer_range = SPREAD
        self._model = Idefics3ForConditionalGeneration._from_config(config, dtype=torch.float32)
        self._patches = torch.nn.Linear(config.vision_config.hidden_size, len(KINDS))
        self.module = torch.nn.ModuleDict({"model": self._model, "patches": self._patches})
        self._processor = AutoProcessor.from_pretrained(architecture)
        self._end = config.text_config.eos_token_id

    def losses(self, batch: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See Lesson: the captions', and with it the patches'."""
        seen = self._model.model.get_image_features(pixels(batch["jpg"])[:, None])
        tokens, labels = self._texts(random.Random(step).choice(PROMPTS), batch["txt"])
        caption = self._model(input_ids=tokens, labels=labels, mm_encoder_outputs={"image": seen}).loss
        kinds = torch.tensor([facts["patches"] for facts in batch["json"]])
        under = torch.nn.functional.cross_entropy(self._patches(seen.last_hidden_state).flatten(0, 1), kinds.flatten())
        return caption, caption + PATCHES_WEIGH * under

    def save(self, folder: Path) -> None:
        """See Lesson. The second head has served."""
        self._model.to(torch.bfloat16).save_pretrained(folder)

    def _texts(self, prompt: str, captions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens of prompts and captions, and labels, both of shape (captions, tokens)."""
        asked = self._asked(prompt)
        answers = [self._processor.tokenizer.encode(f" {caption}", add_special_tokens=False) for caption in captions]
        longest = max(map(len, answers)) + 1
        tokens = torch.full((len(answers), len(asked) + longest), UNANSWERED)
        for row, answer in enumerate(answers):
            tokens[row, len(asked) : len(asked) + len(answer) + 1] = torch.tensor([*answer, self._end])
        labels = tokens.clone()
        tokens[:, : len(asked)] = torch.tensor(asked)
        return tokens.clamp_min(0), labels

    def _asked(self, prompt: str) -> list[int]:
        """A prompt's tokens, with the picture's places."""
        words = [{"type": "image"}, {"type": "text", "text": prompt}]
        text = self._processor.apply_chat_template([{"role": "user", "content": words}], add_generation_prompt=True)
        blank = torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)
        tokens: list[int] = self._processor(text=[text], images=[[blank]])["input_ids"][0]
        return tokens


def pixels(pictures: torch.Tensor) -> torch.Tensor:
    """From -1 to 1, float32 of shape (pictures, 3, height, width), of uint8 with the channels last."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
