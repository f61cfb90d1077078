"""Similarity search over unit vectors, beside numpy with all of them in memory: python -m benchmarks.search

Makes a parquet file of random vectors in a temporary folder, then asks both sides the same questions, in turn: an index
of tarloom's, mapped into memory, and one matrix of float32 with argpartition. Their answers must be the same. Minima.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from tarloom.process.search.query import Searcher

BLOCK = 16_384
MB = 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 32], help="asked at a time")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-") as folder:
        path = Path(folder, "vectors.parquet")
        write_vectors(path, options.rows, options.dim)
        index, (seconds, cpu) = timed(lambda: Searcher(path).index)
        size = Path(folder, "_tarloom/search/vectors.arrow").stat().st_size / MB
        print(
            f"{options.rows:,} vectors of {options.dim}: indexed in {seconds:.1f} s, {cpu:.1f} s of CPU; {size:,.0f} MB"
        )
        _, (seconds, cpu) = timed(lambda: Searcher(path).index)
        print(f"opened again, tarloom  {seconds * 1e3:8.0f} ms {cpu * 1e3:8.0f} ms of CPU")
        matrix, (seconds, cpu) = timed(lambda: loaded(path, options.dim))
        print(f"loaded, numpy          {seconds * 1e3:8.0f} ms {cpu * 1e3:8.0f} ms of CPU")
        chance = np.random.default_rng(1)
        for count in options.queries:
            queries = chance.normal(size=(count, options.dim)).astype(np.float32)
            sides: dict[str, Callable[[], list[set[int]]]] = {
                "tarloom": lambda q=queries: [{m.row for m in found} for found in index.nearest(q, options.k)],
                "numpy": lambda q=queries: in_memory(matrix, q, options.k),
            }
            times: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
            answers = {}
            for _ in range(options.rounds):
                for side, ask in sides.items():
                    answers[side], took = timed(ask)
                    times[side].append(took)
            assert answers["tarloom"] == answers["numpy"]
            for side, measured in times.items():
                seconds, cpu = map(min, zip(*measured, strict=True))
                print(f"{count:3d} queries, {side:8} {seconds * 1e3:8.0f} ms {cpu * 1e3:8.0f} ms of CPU")
        held = psutil.Process().memory_full_info()
        print(f"in memory of its own, numpy's matrix ({matrix.nbytes / MB:,.0f} MB) among it: {held.uss / MB:,.0f} MB")


def write_vectors(path: Path, rows: int, dim: int) -> None:
    chance = np.random.default_rng(0)
    schema = pa.schema([("key", pa.string()), ("embedding", pa.list_(pa.float16(), dim))])
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for first in range(0, rows, BLOCK):
            vectors = chance.normal(size=(min(BLOCK, rows - first), dim)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel()), dim)
            keys = [f"{row:09d}" for row in range(first, first + len(vectors))]
            writer.write_table(pa.table([pa.array(keys), column], schema=schema))


def loaded(path: Path, dim: int) -> np.ndarray:
    """All vectors as one matrix, float32."""
    column = pq.read_table(path, columns=["embedding"]).column("embedding")
    return np.concatenate([part.flatten().to_numpy().astype(np.float32) for part in column.chunks]).reshape(-1, dim)


def in_memory(matrix: np.ndarray, queries: np.ndarray, k: int) -> list[set[int]]:
    distances = -(matrix @ queries.T)
    return [set(np.argpartition(column, k)[:k].tolist()) for column in distances.T]


def timed(work: Callable[[], object]) -> tuple[object, tuple[float, float]]:
    """What it gives; seconds, and seconds of CPU."""
    started, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.perf_counter() - started, time.process_time() - cpu)


if __name__ == "__main__":
    main()
