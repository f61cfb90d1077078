"""What vLLM's engine is given for a question: tokens, and the picture as the model takes it.

Most of what making it costs is paid per call, not per picture: several pictures that are asked the same are made ready
in one call, as the pictures of one prompt that repeats itself, and taken apart again. vLLM itself has it that a
picture's input does not depend on what is made beside it (it keeps them one by one where it keeps them); that it is so
is seen for each model before it is relied on.
"""

import copy
import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image
from transformers.image_processing_backends import TorchvisionBackend
from vllm.inputs.engine import mm_input
from vllm.multimodal.inputs import MultiModalFlatField, MultiModalKwargsItem, MultiModalKwargsItems
from vllm.multimodal.processing.context import TimingContext
from vllm.multimodal.processing.inputs import ProcessorInputs
from vllm.renderers.params import ChatParams
from vllm.utils.torch_utils import set_default_torch_num_threads

from tarloom.process.caption.backend import Question
from tarloom.process.caption.language import LanguageStage

TOGETHER = 16
"""Questions at a time: twice as many would save a twentieth more."""
TOGETHER_PIXELS = TOGETHER * 256 * 256
"""Of their pictures: what a call costs is little beside what larger ones cost, and their memory would add up."""
TEXTS_KEPT = 1024
FEW_LINES = 4
_TRIED_SIZES = ((32, 32), (40, 200), (333, 250), (700, 500))


class Inputs:
    """Makes the input of one model. Not to be used from several threads at a time: its processor is not."""

    def __init__(self, renderer: Any, stage: LanguageStage) -> None:
        self._renderer, self._stage = renderer, stage
        self._picture_first = stage.picture_first
        self._rendered = lru_cache(TEXTS_KEPT)(self._render)
        self._takes_pixels = takes_pixels(renderer.mm_processor)
        self._together = False

    @property
    def picture_first(self) -> bool:
        """Whether the picture comes before the text. Some templates take it nowhere else."""
        return self._picture_first

    @picture_first.setter
    def picture_first(self, first: bool) -> None:
        self._picture_first = first
        self._rendered.cache_clear()

    def try_together(self, prompt: str) -> bool:
        """See whether pictures of several sizes become the same side by side as alone; from now on they are made so."""
        noise = np.random.default_rng(0)
        sizes = itertools.islice(itertools.cycle(_TRIED_SIZES), TOGETHER)
        pictures = [noise.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
        questions = [Question(prompt=prompt, rgb=rgb, uuid=f"tried {n}") for n, rgb in enumerate(pictures)]
        try:
            apart, together = [self.alone(question) for question in questions], self._side_by_side(questions)
        except Exception:  # A model's own processor may refuse several pictures in any way: then it gets one at a time.
            return False
        self._together = all(_same(one, other) for one, other in zip(apart, together, strict=True))
        return self._together

    def made(self, group: Sequence[Question]) -> list[Any]:
        """The input of each question of one of `grouped`; None for what none can be made of, which is its own fault or
        its prompt's."""
        if not self._together or len(group) == 1 or group[0].rgb is None:
            return self._one_by_one(group)
        try:
            return self._side_by_side(group)
        except Exception:  # One of them is to blame: alone, it alone is refused.
            return self._one_by_one(group)

    def _one_by_one(self, questions: Sequence[Question]) -> list[Any]:
        return [self._or_none(question) for question in questions]

    def _or_none(self, question: Question) -> Any:
        try:
            return self.alone(question)
        except Exception:  # The stage's probe was made ready: what this one raises is about this one.
            return None

    def alone(self, question: Question) -> Any:
        """Raises what vLLM raises."""
        prompt = copy.copy(self._rendered(question.prompt, question.rgb is not None))
        if question.rgb is not None:
            prompt["multi_modal_data"] = {"image": [self._shown(question.rgb)]}
            prompt["multi_modal_uuids"] = {"image": [question.uuid]}  # spares vLLM hashing all pixels
        return self._renderer.process_for_engine(prompt, time.time(), tok_params=self._renderer.default_chat_tok_params)

    def _side_by_side(self, questions: Sequence[Question]) -> list[Any]:
        """The same of questions that have pictures and one prompt."""
        tokens = self._rendered(questions[0].prompt, True)["prompt_token_ids"]
        processor = self._renderer.mm_processor
        pictures = [self._shown(question.rgb) for question in questions if question.rgb is not None]
        items = processor.info.parse_mm_data({"image": pictures}, validate=False)  # it is not one prompt's pictures
        repeated = ProcessorInputs(tokens * len(questions), items, {"image": [each.uuid for each in questions]})
        with set_default_torch_num_threads():  # as vLLM does for one
            made = processor.apply(repeated, TimingContext(enabled=False))
        return _taken_apart(made)

    def _shown(self, rgb: np.ndarray) -> Any:
        """As the model's processor takes it: those of transformers that compute in torch make the same of pixels as of
        a picture, without copying them twice. They would take few lines for channels, and warn of memory that is not
        to be written to."""
        plain = self._takes_pixels and rgb.shape[0] > FEW_LINES and rgb.flags.writeable
        return rgb if plain else Image.fromarray(rgb)

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
        _, prompt = self._renderer.render_messages(messages, params)
        return dict(self._renderer.tokenize_prompt(prompt, self._renderer.default_chat_tok_params))


def takes_pixels(maker: Any) -> bool:
    """Whether the model's input is made of pictures by one of transformers' own processors that compute in torch."""
    if maker is None:
        return False
    kind: type[Any] = type(getattr(maker.info.get_hf_processor(), "image_processor", None))
    return issubclass(kind, TorchvisionBackend) and kind.process_image is TorchvisionBackend.process_image


def grouped(questions: Sequence[Question]) -> list[list[Question]]:
    """In order, those together that can be made together."""
    groups: list[list[Question]] = []
    for question in questions:
        if groups and _fits(groups[-1], question):
            groups[-1].append(question)
        else:
            groups.append([question])
    return groups


def _fits(group: Sequence[Question], question: Question) -> bool:
    pixels = sum(_pixels(each) for each in (*group, question))
    return _kind(group[0]) == _kind(question) and len(group) < TOGETHER and pixels <= TOGETHER_PIXELS


def _pixels(question: Question) -> int:
    return 0 if question.rgb is None else question.rgb.shape[0] * question.rgb.shape[1]


def _kind(question: Question) -> tuple[str, bool]:
    return question.prompt, question.rgb is not None


def _taken_apart(made: Any) -> list[Any]:
    """Each picture's own, of what was made of a prompt that repeats itself: the first picture's place in it says how
    much comes before each. Raises ValueError where that is not so: a prompt may have words that vLLM takes for the
    place of a picture, and would give one question the next one's."""
    tokens, places = made["prompt_token_ids"], made["mm_placeholders"]["image"]
    before = places[0].offset
    starts = [place.offset - before for place in places]
    parts = [tokens[start:end] for start, end in itertools.pairwise([*starts, len(tokens)])]
    texts = {(*part[:before], None, *part[before + place.length :]) for part, place in zip(parts, places, strict=True)}
    if len(texts) > 1:
        raise ValueError("the pictures are not one in each repetition")
    return [
        mm_input(
            prompt_token_ids=part,
            mm_kwargs=MultiModalKwargsItems({"image": [_alone(item)]}),
            mm_hashes={"image": [name]},
            mm_placeholders={"image": [replace(place, offset=before)]},
        )
        for part, item, name, place in zip(
            parts, made["mm_kwargs"]["image"], made["mm_hashes"]["image"], places, strict=True
        )
    ]


def _alone(item: Any) -> Any:
    """The same without the others' places, which would travel with every picture."""
    elements = {}
    for name, element in item.items():
        field = element.field
        if isinstance(field, MultiModalFlatField) and field.dim == 0:
            element = replace(element, field=replace(field, slices=[slice(0, len(element.data))]))
        elements[name] = element
    return MultiModalKwargsItem(elements)


def _same(one: Any, other: Any) -> bool:
    names = ("type", "prompt_token_ids", "mm_kwargs", "mm_hashes", "mm_placeholders")
    return all(one[name] == other[name] for name in names)
