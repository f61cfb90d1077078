"""tarloom: shard WebDatasets and prepare image-text training data.

    import tarloom
    ds = tarloom.open("s3://bucket/laion")
    for sample in ds: ...

Importing this package loads no framework: each is imported by the one file that adapts it, when it is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tarloom.read.dataset import Dataset
    from tarloom.read.dataset import open_dataset as open

__version__ = "0.1.0"
__all__ = ["Dataset", "__version__", "open"]


def __getattr__(name: str) -> Any:
    if name in ("open", "Dataset"):
        from tarloom.read import dataset

        return dataset.open_dataset if name == "open" else dataset.Dataset
    raise AttributeError(f"module 'tarloom' has no attribute {name!r}")
