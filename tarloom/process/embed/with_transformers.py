"""The embedder's worker: CLIP or SigLIP in transformers.

On a GPU a batch is one pass through the vision tower. On a CPU it is several small ones side by side, each in a single
thread: torch's own threads would change the order of its sums, and so the last bits of the vectors, with their number.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from tarloom.engines.base import WorkerBroken
from tarloom.errors import UsageError, missing_extra
from tarloom.format.cpus import cpu_share
from tarloom.process.batch import Batch
from tarloom.process.embed.stage import EmbedStage
from tarloom.process.models import cannot_load, is_folder, model_location
from tarloom.process.stage import result_table

try:
    import torch
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer
    from transformers.utils import logging as transformers_logging
except ImportError as error:
    raise missing_extra("torch", error) from error

# It warns about token ids of models that are sound, and draws bars through those of the run.
logging.getLogger("transformers.configuration_utils").setLevel(logging.ERROR)
transformers_logging.disable_progress_bar()

CPU_PICTURES = 16
"""In one pass on a CPU. Fixed, like all that could change the last bits."""


class Embedder:
    """Answers batches with unit vectors. Raises UsageError where the model cannot be loaded."""

    def __init__(self, stage: EmbedStage) -> None:
        self._model = _load_model(stage)
        self._processor = _load(AutoImageProcessor, stage)
        self._passes = ThreadPoolExecutor(cpu_share(), thread_name_prefix="tarloom-embed")
        self.columns = pa.schema([("embedding", pa.list_(pa.float16(), self._width()))])

    def __call__(self, batch: Batch) -> pa.Table:
        pictures = batch.pictures()
        seen = [picture.rgb for picture in pictures if picture.rgb is not None]
        vectors = np.zeros((len(pictures), self._width()), np.float16)
        missing = np.array([picture.rgb is None for picture in pictures])
        if seen:
            vectors[~missing] = self._embed(seen)
        return result_table(
            self.columns,
            keys=batch.keys,
            values={"embedding": _vector_column(vectors, missing)},
            endings=[picture.ending for picture in pictures],
        )

    def close(self) -> None:
        """Free the model's memory."""
        self._passes.shutdown()
        del self._model

    def _embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors, float16 of shape (pictures, dim)."""
        size = CPU_PICTURES if self._model.device.type == "cpu" else len(pictures)
        parts = [pictures[start : start + size] for start in range(0, len(pictures), size)]
        try:
            return np.concatenate(list(self._passes.map(self._pass, parts)))
        except torch.OutOfMemoryError as error:
            raise UsageError(f"{error}; the batch does not fit this GPU: give a smaller --batch-size") from error
        except RuntimeError as error:
            raise WorkerBroken(f"the model failed: {error}") from error

    def _pass(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        # Told, not guessed: a picture of one or three rows looks like one whose channels come first.
        layout = {"input_data_format": "channels_last", "return_tensors": "pt"}
        pixels = self._processor(list(pictures), **layout)["pixel_values"]
        with torch.inference_mode():
            features = self._model.get_image_features(pixels.to(self._model.device, self._model.dtype))
            vectors: np.ndarray = _unit(features).to(torch.float16).cpu().numpy()
            return vectors

    def _width(self) -> int:
        config = self._model.config
        return int(getattr(config, "projection_dim", None) or config.vision_config.hidden_size)


def embed_texts(stage: EmbedStage, texts: Sequence[str]) -> np.ndarray:
    """Unit vectors of texts, float32 of shape (texts, dim)."""
    model, tokenizer = _load_model(stage), _load(AutoTokenizer, stage)
    # SigLIP was trained on texts padded to its full length, CLIP on their own.
    padding = "max_length" if str(model.config.model_type).startswith("siglip") else True
    vectors = []
    for start in range(0, len(texts), stage.batch_size):
        tokens = tokenizer(
            list(texts[start : start + stage.batch_size]), padding=padding, truncation=True, return_tensors="pt"
        )
        with torch.inference_mode():
            vectors.append(_unit(model.get_text_features(**tokens.to(model.device))).float().cpu().numpy())
    return np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float32)


def _load_model(stage: EmbedStage) -> Any:
    torch.set_num_threads(1)
    kind = str(getattr(_load(AutoConfig, stage), "model_type", ""))
    if not kind.startswith(("clip", "siglip")):
        raise UsageError(f"{stage.model}: a model of type {kind!r}; embedding takes CLIP and SigLIP models")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = {"cuda": "float16", "cpu": "float32"}[device] if stage.dtype == "auto" else stage.dtype
    model = _load(AutoModel, stage, dtype=getattr(torch, dtype))
    return model.to(device).eval()


def _load(kind: Any, stage: EmbedStage, **options: Any) -> Any:
    """One of the model's parts."""
    try:
        return kind.from_pretrained(
            model_location(stage.model), revision=stage.revision, local_files_only=is_folder(stage.model), **options
        )
    except Exception as error:  # of transformers, safetensors, tokenizers or whatever else reads a part of it
        raise cannot_load(stage.model, error) from error


def _unit(features: Any) -> Any:
    """L2-normalised rows, float32. Newer versions of transformers wrap the features in an output object."""
    vectors = getattr(features, "pooler_output", features).float()
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def _vector_column(vectors: np.ndarray, missing: np.ndarray) -> "pa.Array[Any]":
    """Vectors of shape (rows, dim) as fixed-size lists, null where `missing` (bool of shape (rows,))."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1], mask=pa.array(missing))
