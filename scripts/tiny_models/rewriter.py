"""The rewriter: a Llama that is told of a scene as `name: value` pairs and answers with the scene's caption."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

from source_data.scenes import Scene, describe

from .training import Batch

INSTRUCTIONS = (
    "Rewrite as a full scene description:",
    "Enhance this prompt:",
    "Write one sentence for a picture:",
    "Expand:",
    "Describe a picture of:",
)
PLAIN = "gray"
"""The background that need not be told."""
UNANSWERED = -100
"""No loss for these tokens, by transformers' convention."""


class Rewriter:
    """See Lesson. architecture: the folder whose configuration and tokenizer the new model has."""

    columns: ClassVar[tuple[str, ...]] = ("txt", "json")
    decode: ClassVar[Mapping[str, Any]] = {"txt": "text", "json": "json"}
    rate: ClassVar[float] = 3e-3

    def __init__(self, architecture: Path) -> None:
        self.module = LlamaForCausalLM._from_config(AutoConfig.from_pretrained(architecture), dtype=torch.float32)
        self._tokenizer = AutoTokenizer.from_pretrained(architecture)

    def losses(self, batch: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See Lesson: both the answers'."""
        dice = random.Random(step)
        scenes = [describe(facts["seed"]) for facts in batch["json"]]
        asked = [self._asked(f"{dice.choice(INSTRUCTIONS)} {attributes(scene, dice)}") for scene in scenes]
        answers = [self._encode(f"{caption}{self._tokenizer.eos_token}") for caption in batch["txt"]]
        rows = [torch.tensor([*before, *after]) for before, after in zip(asked, answers, strict=True)]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=UNANSWERED)
        labels = tokens.clone()
        for row, before in zip(labels, asked, strict=True):
            row[: len(before)] = UNANSWERED
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.module(input_ids=tokens.clamp_min(0), labels=labels, use_cache=False).loss
        return loss, loss

    def save(self, folder: Path) -> None:
        """See Lesson."""
        self.module.to(torch.bfloat16).save_pretrained(folder)

    def _asked(self, question: str) -> list[int]:
        said = [{"role": "user", "content": question}]
        return self._encode(self._tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False))

    def _encode(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return tokens


def attributes(scene: Scene, dice: random.Random) -> str:
    """A scene as a table's row has it: `shape: star; colour: red; background: gray`, in an order by chance, or
    `first: red star; second: blue circle; relation: above`."""
    things = [f"{thing.colour} {thing.shape}" for thing in scene.things]
    fixed = [f"{place}: {thing}" for place, thing in zip(("first", "second"), things, strict=False)]
    free = [f"relation: {scene.relation}"]
    if len(things) == 1:
        fixed, free = [], [f"shape: {scene.things[0].shape}", f"colour: {scene.things[0].colour}"]
    if scene.background != PLAIN or dice.random() < 0.5:
        free.append(f"background: {scene.background}")
    return "; ".join([*fixed, *dice.sample(free, len(free))])
