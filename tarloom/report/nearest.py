"""The pictures whose embeddings are nearest to a few vectors: one pass over the sidecars, a few rows kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tarloom.read.dataset import Dataset
from tarloom.read.plan.pieces import WHOLE_SHARD
from tarloom.read.samples.batches import read_piece
from tarloom.report.pictures import Spot

BATCH_ROWS = 16_384
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Match:
    """A row of the dataset and its cosine similarity."""

    spot: Spot
    score: float


def nearest(dataset: Dataset, column: str, queries: Vectors, *, count: int) -> list[list[Match]]:
    """For each query (unit vectors, shape (queries, dim)) the `count` most similar rows, best first.

    Rows without a vector are passed over. Ties go to the earlier row. Raises ShardError where a sidecar is stale.
    """
    best: list[list[Match]] = [[] for _ in queries]
    for found in _vectors(dataset, column):
        scores = found.vectors @ queries.T
        for query, ranking in enumerate(best):
            top = np.argsort(-scores[:, query], kind="stable")[:count]
            ranking += [Match(spot=found.spot(row), score=float(scores[row, query])) for row in top]
            ranking.sort(key=lambda match: -match.score)
            del ranking[count:]
    return best


def vectors_at(dataset: Dataset, column: str, spots: Sequence[Spot]) -> tuple[list[Spot], Vectors]:
    """Those of the rows that have an embedding, in the dataset's order, and the embeddings, shape (rows, dim)."""
    wanted, there, found = set(spots), [], []
    for some in _vectors(dataset, column):
        hits = [i for i in range(len(some.rows)) if some.spot(i) in wanted]
        there += [some.spot(i) for i in hits]
        found.append(some.vectors[hits])
    return there, np.concatenate(found) if found else np.zeros((0, 1), np.float32)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Some rows of a piece that have a vector."""

    piece: int
    rows: npt.NDArray[np.int64]
    vectors: Vectors
    """Shape (rows, dim)."""

    def spot(self, i: int) -> Spot:
        return Spot(piece=self.piece, row=int(self.rows[i]))


def _vectors(dataset: Dataset, column: str) -> Iterator[_Found]:
    """All rows that have a vector, as float32, some thousands at a time."""
    for number, piece in enumerate(dataset.select(column).pieces(WHOLE_SHARD)):
        first = 0
        for batch in read_piece(piece, batch_rows=BATCH_ROWS):
            array = batch.column(column)
            rows = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
            if len(rows):
                yield _Found(piece=number, rows=first + rows, vectors=_matrix(array.drop_null()))
            first += batch.num_rows


def _matrix(vectors: Any) -> Vectors:
    """Fixed-size lists of float16 or float32, none of them null, as an array of shape (rows, dim)."""
    flat: Vectors = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return flat.reshape(len(vectors), -1)
