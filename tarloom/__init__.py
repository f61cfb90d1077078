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
    from tarloom.read.feed.batches.captions import Captions
    from tarloom.read.feed.batches.pictures import CenterCrop, RandomCrop, RandomResizedCrop, Resize
    from tarloom.read.feed.mixture import Mixture, mix
    from tarloom.read.ledger import Ledger
    from tarloom.read.ray.sidecars import SidecarSink
    from tarloom.read.ray.sink import TarSink

__version__ = "0.1.0"
_AT = {
    "Captions": "read.feed.batches.captions",
    "CenterCrop": "read.feed.batches.pictures",
    "Dataset": "read.dataset",
    "Ledger": "read.ledger",
    "Mixture": "read.feed.mixture",
    "RandomCrop": "read.feed.batches.pictures",
    "RandomResizedCrop": "read.feed.batches.pictures",
    "Resize": "read.feed.batches.pictures",
    "SidecarSink": "read.ray.sidecars",
    "TarSink": "read.ray.sink",
    "mix": "read.feed.mixture",
    "open": "read.dataset",
}
__all__ = [
    "Captions",
    "CenterCrop",
    "Dataset",
    "Ledger",
    "Mixture",
    "RandomCrop",
    "RandomResizedCrop",
    "Resize",
    "SidecarSink",
    "TarSink",
    "__version__",
    "mix",
    "open",
]


def __getattr__(name: str) -> Any:
    if name in _AT:
        from importlib import import_module

        return getattr(import_module(f"tarloom.{_AT[name]}"), "open_dataset" if name == "open" else name)
    raise AttributeError(f"module 'tarloom' has no attribute {name!r}")
