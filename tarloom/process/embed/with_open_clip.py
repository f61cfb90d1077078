"""Checkpoints of open_clip, as encoders: folders with open_clip_config.json, hub names, architectures with a tag."""

from collections.abc import Sequence
from typing import Any

from tarloom.errors import UsageError, missing_extra
from tarloom.process.embed.encoder import Fitting
from tarloom.process.embed.stage import HUB_PREFIX, ModelStage
from tarloom.process.embed.tensors import place
from tarloom.process.models import cannot_load, is_folder, model_location

try:
    import open_clip
except ImportError as error:
    raise missing_extra("open-clip", error) from error


class OpenClipEncoder:
    """Raises UsageError where the model cannot be loaded."""

    def __init__(self, stage: ModelStage) -> None:
        self.device, self.dtype = place(stage.dtype)
        name, tag = _name_and_tag(stage.model)
        try:
            model = open_clip.create_model(name, pretrained=tag, require_pretrained=True, weights_only=True)
            self._tokenizer = open_clip.get_tokenizer(name)
            probe = model.encode_text(self._tokenizer([""]))
        except Exception as error:  # of open_clip, timm, torch or whatever else reads a part of it
            raise cannot_load(stage.model, error) from error
        self._model = model.to(self.device, self.dtype).eval()
        self.fitting = _fitting(open_clip.get_model_preprocess_cfg(model), stage.model)
        self.width = int(probe.shape[1])

    def pictures(self, pixels: Any) -> Any:
        return self._model.encode_image(pixels)

    def length(self, text: str) -> int:
        return int(self._tokenizer.context_length)

    def texts(self, texts: Sequence[str], length: int) -> Any:
        return self._model.encode_text(self._tokenizer(list(texts), context_length=length).to(self.device))


def _name_and_tag(model: str) -> tuple[str, str | None]:
    """As open_clip takes them."""
    if is_folder(model):
        return f"local-dir:{model_location(model)}", None
    if model.startswith(HUB_PREFIX):
        return model, None
    name, _, tag = model.partition(":")
    return name, tag


def _fitting(options: dict[str, Any], model: str) -> Fitting:
    """What open_clip's transform would do. Raises UsageError for one that pads."""
    size, mode = options["size"], options.get("resize_mode", "shortest")
    crop = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    resample = options.get("interpolation", "bicubic")
    known = mode == "squash" or (mode == "shortest" and crop[0] == crop[1])
    if not known or resample not in ("bilinear", "bicubic"):
        raise UsageError(
            f"{model}: its pictures are to be prepared in a way that embedding does not know: size {size}, "
            f"{mode}, {resample}; see docs/embedding.md for those it knows"
        )
    return Fitting(
        resize=crop if mode == "squash" else crop[0],
        crop=crop,
        resample=resample,
        mean=tuple(options["mean"]),
        std=tuple(options["std"]),
        half_up=True,
    )
