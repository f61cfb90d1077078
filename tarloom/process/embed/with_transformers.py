"""CLIP and SigLIP in transformers, as encoders."""

import logging
from collections.abc import Sequence
from functools import cached_property
from threading import Lock
from typing import Any

from tarloom.errors import UsageError, missing_extra
from tarloom.process.embed.encoder import Fitting
from tarloom.process.embed.stage import ModelStage
from tarloom.process.embed.tensors import place
from tarloom.process.models import cannot_load, is_folder, model_location

try:
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer
    from transformers.utils import logging as transformers_logging
except ImportError as error:
    raise missing_extra("torch", error) from error

# It warns about token ids of models that are sound, and draws bars through those of the run.
logging.getLogger("transformers.configuration_utils").setLevel(logging.ERROR)
transformers_logging.disable_progress_bar()

KINDS = ("clip", "siglip")
RESAMPLES: dict[int, Any] = {2: "bilinear", 3: "bicubic"}
"""By Pillow's numbers."""
TOKEN_STEP = 16
"""CLIP sees a text with as few pads as make its length a multiple of this: its vector depends on nothing but itself."""


class TransformersEncoder:
    """Raises UsageError where the model cannot be loaded, or is of a kind that this does not know."""

    def __init__(self, stage: ModelStage) -> None:
        self._stage = stage
        config = self._load(AutoConfig)
        self._kind = str(getattr(config, "model_type", ""))
        if self._kind not in KINDS:
            raise UsageError(f"{stage.model}: a model of type {self._kind!r}; embedding takes CLIP and SigLIP models")
        self.device, self.dtype = place(stage.dtype)
        self._model = self._load(AutoModel, dtype=self.dtype).to(self.device).eval()
        self.fitting = _fitting(self._load(AutoImageProcessor), stage.model)
        self.width = int(getattr(config, "projection_dim", None) or config.vision_config.hidden_size)
        self._longest = int(config.text_config.max_position_embeddings)
        self._tokenizing = Lock()
        """The tokenizer keeps to what another thread has told it about lengths."""

    def pictures(self, pixels: Any) -> Any:
        return _pooled(self._model.get_image_features(pixels))

    def length(self, text: str) -> int:
        if self._kind == "siglip":
            return self._longest  # as it was trained
        tokens = len(self._tokens(text, max_length=self._longest)["input_ids"])
        return min(self._longest, -(-tokens // TOKEN_STEP) * TOKEN_STEP)

    def texts(self, texts: Sequence[str], length: int) -> Any:
        tokens = self._tokens(list(texts), padding="max_length", max_length=length, return_tensors="pt")
        return _pooled(self._model.get_text_features(**tokens.to(self.device)))

    def _tokens(self, texts: str | list[str], **options: Any) -> Any:
        with self._tokenizing:
            return self._tokenizer(texts, truncation=True, **options)

    @cached_property
    def _tokenizer(self) -> Any:
        return self._load(AutoTokenizer)

    def _load(self, kind: Any, **options: Any) -> Any:
        """One of the model's parts."""
        model = self._stage.model
        try:
            return kind.from_pretrained(
                model_location(model), revision=self._stage.revision, local_files_only=is_folder(model), **options
            )
        except Exception as error:  # of transformers, safetensors, tokenizers or whatever else reads a part of it
            raise cannot_load(model, error) from error


def _pooled(features: Any) -> Any:
    """Newer versions of transformers wrap the features in an output object."""
    return getattr(features, "pooler_output", features)


def _fitting(processor: Any, model: str) -> Fitting:
    """What the processor would do. Raises UsageError for one that does more."""
    size, crop = dict(processor.size), dict(processor.crop_size or {}) if processor.do_center_crop else {}
    edge = size.get("shortest_edge")
    least = (edge, edge) if edge else (size.get("height", 0), size.get("width", 0))
    cut = (crop["height"], crop["width"]) if crop else (0, 0) if edge else least
    whole = processor.do_resize and processor.do_rescale and processor.do_normalize
    known = whole and 0 < cut[0] <= least[0] and 0 < cut[1] <= least[1] and processor.resample in RESAMPLES
    if not known:
        raise UsageError(
            f"{model}: its pictures are to be prepared in a way that embedding does not know: size {size}, crop "
            f"{crop or 'none'}, resample {processor.resample}; see docs/embedding.md for those it knows"
        )
    return Fitting(
        resize=edge or least,
        crop=cut,
        resample=RESAMPLES[processor.resample],
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
        scale=processor.rescale_factor,
    )
