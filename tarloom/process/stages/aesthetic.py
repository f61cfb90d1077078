"""A linear head over embeddings: how pictures are liked, or whatever else it was trained to say.

Its weights are a safetensors or npz file of one linear layer, or of several that follow each other by their names, such
as LAION's aesthetic predictor: arrays `weight` of shape (outputs, inputs) and `bias` of shape (outputs,), with or
without a prefix ("layers.0.weight"). Layers without anything between them are one: they are multiplied out.
"""

import hashlib
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from tarloom.errors import UsageError, missing_extra
from tarloom.format.sidecar import SKIPPED, SUCCESS
from tarloom.process.batch import Batch
from tarloom.process.stage import Stage, StageWorker, result_table
from tarloom.process.stages.vectors import NO_EMBEDDING, row_products, vectors_of


@dataclass(frozen=True, kw_only=True)
class AestheticStage(Stage):
    """A number for every embedding: column `score`."""

    weights: str
    """A .safetensors or .npz file of a linear layer, or of several, from the embedding's dimensions to one."""
    embedding: str = "clip.embedding"
    """The column of vectors: of a sidecar, or of a stage before this one."""
    batch_size: int = 4096
    """Rows at a time."""

    name: ClassVar[str] = "aesthetic"
    members: ClassVar[tuple[str, ...]] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.embedding,)

    @property
    def at_least(self) -> None:
        return None

    def check(self) -> None:
        """Raises UsageError for weights that are none."""
        load_head(self.weights)

    def fingerprint(self) -> Mapping[str, str]:
        digest = hashlib.sha256(Path(self.weights).expanduser().read_bytes()).hexdigest()
        return {"stage": self.name, "version": "1", "weights": f"sha256:{digest}", "embedding": self.embedding}

    def open(self) -> StageWorker:
        return _Scorer(self)


class _Scorer:
    """Answers batches with the head's outputs."""

    columns = pa.schema([("score", pa.float32())])

    def __init__(self, stage: AestheticStage) -> None:
        self._stage = stage
        self._head = load_head(stage.weights)

    def __call__(self, batch: Batch) -> pa.Table:
        column = self._stage.embedding
        present, vectors = vectors_of(batch.column(column), column)
        weights, bias = self._head
        if vectors.shape[1] != len(weights):
            raise UsageError(
                f"{self._stage.weights}: for vectors of {len(weights)} dimensions, but those of {column} have "
                f"{vectors.shape[1]}; give the weights that were trained on this model's embeddings"
            )
        scores = np.zeros(len(present), np.float32)
        scores[present] = row_products(vectors, weights) + bias
        return result_table(
            self.columns,
            keys=batch.keys,
            values={"score": pa.array(scores, mask=~present)},
            endings=[(SUCCESS, None) if there else (SKIPPED, NO_EMBEDDING) for there in present],
        )

    def close(self) -> None:
        """Nothing is held."""


def load_head(path: str) -> tuple[np.ndarray, float]:
    """Weights, float64 of shape (dim,), and bias. Raises UsageError for a file that holds no such head."""
    arrays = {name: array.astype(np.float64) for name, array in _arrays(path).items()}
    weights, bias = np.ones(1), 0.0
    try:
        for name in sorted((name for name in arrays if name.endswith("weight")), key=_natural, reverse=True):
            added = arrays.get(f"{name.removesuffix('weight')}bias", np.zeros(1))
            bias += float(weights @ np.broadcast_to(added, weights.shape))
            weights = weights @ np.atleast_2d(arrays[name])
        if weights.ndim != 1 or not any(name.endswith("weight") for name in arrays):
            raise ValueError("layers are arrays of two dimensions called weight, with or without a prefix")
    except ValueError as error:
        raise UsageError(f"{path}: no linear head with one output: {error}; it has {_described(arrays)}") from error
    return weights, bias


def _arrays(path: str) -> Mapping[str, np.ndarray]:
    file = Path(path).expanduser()
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        if file.suffix == ".safetensors":
            return _safetensors(file)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: the weights cannot be read: {error}; check the file") from error
    raise UsageError(f"{path}: weights are a .safetensors or .npz file; convert others (docs/stages.md)")


def _safetensors(file: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load
    except ImportError as error:
        raise missing_extra("torch", error) from error
    data = file.read_bytes()
    try:
        found: dict[str, np.ndarray] = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    except KeyError:  # numpy has no bfloat16
        return _by_torch(data)
    return found


def _by_torch(data: bytes) -> dict[str, np.ndarray]:
    try:
        from safetensors.torch import load
    except ImportError as error:
        raise missing_extra("torch", error) from error
    return {name: array.float().numpy() for name, array in load(data).items()}


def _natural(name: str) -> list[Any]:
    """layers.10 behind layers.2."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _described(arrays: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "no array"
