"""What is searched for, as vectors: texts and pictures through the model that made the dataset's, and keys.

matches = Searcher("shards", model="source_data/models/clip").by_texts(["a red circle"])[0]
"""

from collections.abc import Sequence
from pathlib import Path

from tarloom.errors import UsageError
from tarloom.format.storage import Storage, open_storage, split_location
from tarloom.process.embed.stage import picture_vectors, revision_of, text_vectors
from tarloom.process.models import hub_name
from tarloom.process.search.index import Match, SearchIndex, open_index
from tarloom.process.search.vectors import ParquetVectors, SidecarVectors, Vectors
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
        model, revision = self._loaded()
        return self.index.nearest(text_vectors(model, texts, revision=revision), k)

    def by_picture(self, data: bytes, k: int = 10) -> list[Match]:
        """The k samples nearest to an encoded picture."""
        model, revision = self._loaded()
        return self.index.nearest(picture_vectors(model, [data], revision=revision), k)[0]

    def by_key(self, key: str, k: int = 10) -> list[Match]:
        """The k samples nearest to that with this key: itself first, but for earlier ones with the same vector."""
        return self.index.nearest(self.index.vector(key), k)[0]

    @property
    def model(self) -> str:
        """Raises UsageError where it is not known, or not the one that made the vectors."""
        return self._loaded()[0]

    def _loaded(self) -> tuple[str, str | None]:
        """The model and its revision."""
        made_with = self.index.fingerprint.get("model")
        model = self._model or self._told_model(made_with)
        if model is None:
            raise UsageError(f"model: give the one that made the vectors, {made_with or 'which they do not name'}")
        return model, revision_of(model, made_with)

    def _told_model(self, made_with: str | None) -> str | None:
        told = self._vectors.footer().get(MODEL) if isinstance(self._vectors, ParquetVectors) else None
        return told or hub_name(made_with or "")


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
