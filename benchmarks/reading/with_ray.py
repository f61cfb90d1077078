"""Ray Data, beside Ray's own read_webdataset as its users call it.

Both sides are iterated in batches of the same size and form: bytes as Arrow, or as numpy, Ray's default, which copies
each of them once more; pictures as numpy. Ray is up before the time begins, its two workers have imported ray.data, its
own actors are awake, and numbers of its own have been through all memory of its object store once, as in a session that
has worked for a while: none of that is anybody's reading.
"""

import logging
import time
from collections.abc import Iterator

import ray
import ray.data

from benchmarks.reading.compare import Comparison
from benchmarks.reading.data import tars
from tarloom.read.dataset import open_dataset

BATCH_ROWS = 256
CPUS = 2
MIB = 1 << 20
STORE_BYTES = 512 * MIB
"""As large as tarloom's own sessions have for each worker."""


def raw(folder: str) -> Iterator[int]:
    with_ray()
    yield 0
    yield consumed(open_dataset(folder).to_ray(), "pyarrow")
    ray.shutdown()


def raw_of_ray(folder: str) -> Iterator[int]:
    with_ray()
    yield 0
    yield consumed(ray.data.read_webdataset(tars(folder), decoder=None), "pyarrow")
    ray.shutdown()


def raw_in_numpy(folder: str) -> Iterator[int]:
    with_ray()
    yield 0
    yield consumed(open_dataset(folder).to_ray())
    ray.shutdown()


def raw_of_ray_in_numpy(folder: str) -> Iterator[int]:
    with_ray()
    yield 0
    yield consumed(ray.data.read_webdataset(tars(folder), decoder=None))
    ray.shutdown()


def decoded(folder: str) -> Iterator[int]:
    with_ray()
    yield 0
    yield consumed(open_dataset(folder).decoding("rgb", json="json", txt="text").to_ray())
    ray.shutdown()


def decoded_of_ray(folder: str) -> Iterator[int]:
    with_ray()
    yield 0
    yield consumed(ray.data.read_webdataset(tars(folder)))
    ray.shutdown()


def with_ray() -> None:
    """A session whose workers are as they are after some minutes of work."""
    ray.init(
        num_cpus=CPUS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=STORE_BYTES,
    )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.get([ray.remote(_warmed).remote() for _ in range(CPUS)])
    for _ in numbers(2 * STORE_BYTES).iter_batches(batch_size=None):
        pass
    time.sleep(5)


def numbers(size: int) -> ray.data.Dataset:
    """So many bytes, in blocks that are large enough to fill the store before the first are thrown away."""
    return ray.data.range_tensor(size // MIB, shape=(MIB // 8,), override_num_blocks=size // (32 * MIB))


def consumed(rows: ray.data.Dataset, batch_format: str = "default") -> int:
    return sum(len(batch["__key__"]) for batch in rows.iter_batches(batch_size=BATCH_ROWS, batch_format=batch_format))


def _warmed() -> str:
    time.sleep(1)  # so that each worker gets one
    return ray.data.__name__


COMPARISONS = (
    Comparison(name="Ray Data, raw", wanted=5, ours=raw, theirs=raw_of_ray),
    Comparison(name="Ray Data, raw, numpy", wanted=3, ours=raw_in_numpy, theirs=raw_of_ray_in_numpy),
    Comparison(name="Ray Data, decoded", wanted=1.7, ours=decoded, theirs=decoded_of_ray),
)
