"""What is searched for, as vectors: texts and pictures through the model that made the dataset's, and keys.

matches = search("shards", text="a red circle", model="source_data/models/clip")
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tarloom.errors import UsageError
from tarloom.format.index import KEY
from tarloom.format.sidecar import SUCCESS
from tarloom.format.storage import Storage, open_storage, split_location
from tarloom.process.batch import Batch, Decoder
from tarloom.process.embed.stage import EmbedStage, text_vectors
from tarloom.process.search.index import Match, SearchIndex, open_index
from tarloom.process.search.vectors import EMBEDDING, ParquetVectors, SidecarVectors, Vectors
from tarloom.read.dataset import open_dataset

PARQUET = "embeddings.parquet"
"""What the batch service leaves in its output folder."""
MODEL = "tarloom.model"
"""In the footer of that: where the model was."""


class Searcher:
    """Searches a dataset with sidecars, a parquet file with vectors, or an output folder of the batch service.

    name: of the sidecars. model: the one that made the vectors; not needed where they say where it is (a name on the
    hub, a batch service's output), nor to search by key. Raises UsageError where there are no vectors.
    """

    def __init__(self, path: str | Path, *, name: str = "clip", model: str | None = None) -> None:
        self._vectors, storage = find_vectors(str(path), name)
        self._model = model
        self.index: SearchIndex = open_index(self._vectors, storage)

    def by_texts(self, texts: Sequence[str], k: int = 10) -> list[list[Match]]:
        """For each text the k nearest samples."""
        return self.index.nearest(text_vectors(self.model, texts), k)

    def by_picture(self, data: bytes, k: int = 10) -> list[Match]:
        """The k samples nearest to an encoded picture."""
        return self.index.nearest(picture_vectors(self.model, [data]), k)[0]

    def by_key(self, key: str, k: int = 10) -> list[Match]:
        """The k samples nearest to the one with this key, which is the first of them."""
        return self.index.nearest(self.index.vector(key), k)[0]

    @property
    def model(self) -> str:
        """Raises UsageError where it is not known, or not the one that made the vectors."""
        made_with = self.index.fingerprint.get("model")
        model = self._model or self._told_model(made_with)
        if model is None:
            raise UsageError(f"model: give the one that made the vectors, {made_with or 'which they do not name'}")
        found = EmbedStage(model=model).fingerprint()["model"]
        if made_with not in (None, found) and not (made_with or "").startswith(f"{model}@"):
            raise UsageError(f"model {model}: is {found}, but the vectors were made with {made_with}; give that one")
        return model

    def _told_model(self, made_with: str | None) -> str | None:
        told = self._vectors.footer().get(MODEL) if isinstance(self._vectors, ParquetVectors) else None
        name, _, version = (made_with or "").partition("@")
        return told or (name if version and not version.startswith("sha256:") else None)


def find_vectors(path: str, name: str) -> tuple[Vectors, Storage]:
    """The vectors at a path, and the storage that they lie in. Raises UsageError where there are none."""
    storage, file = split_location(path) if path.endswith(".parquet") else (open_storage(path), PARQUET)
    entry = storage.head(file)
    if entry is not None:
        return ParquetVectors(storage=storage, entry=entry), storage
    if path.endswith(".parquet"):
        raise UsageError(f"{path}: no such file; give a dataset's folder or a parquet file with vectors")
    dataset = open_dataset(path)
    return SidecarVectors(dataset=dataset, name=name), dataset.catalog.storage


def picture_vectors(model: str, pictures: Sequence[bytes]) -> npt.NDArray[np.float32]:
    """Unit vectors of encoded pictures, float32 of shape (pictures, dim), as the embedding stage makes them.

    Raises UsageError for a picture that cannot be decoded and a model that cannot be loaded.
    """
    keys = [str(number) for number in range(len(pictures))]
    rows = pa.RecordBatch.from_pydict({KEY: keys, "jpg": pa.array(pictures, pa.binary())})
    stage = EmbedStage(model=model)
    stage.check()
    with closing(Decoder()) as decoder, closing(stage.open()) as worker:
        answer = worker(Batch(rows, decoder))
    _check(answer.to_pylist())
    column: Any = answer.column(EMBEDDING).combine_chunks()
    found: npt.NDArray[np.float32] = column.flatten().to_numpy().astype(np.float32).reshape(len(pictures), -1)
    return found


def _check(answers: Sequence[Mapping[str, object]]) -> None:
    failed = next((answer for answer in answers if answer["status"] != SUCCESS), None)
    if failed is not None:
        raise UsageError(f"picture {failed[KEY]}: cannot be embedded ({failed['error']}); give another one")
