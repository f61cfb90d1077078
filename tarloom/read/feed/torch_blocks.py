"""Tensors over memory that processes share (batches/shared.py) are sent as a few numbers, all others as torch does."""

from collections.abc import Callable
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import Any

from tarloom.errors import missing_extra
from tarloom.read.feed.batches.shared import Blocks, Sent, received

try:
    import torch
    from torch.multiprocessing.reductions import reduce_tensor
except ImportError as error:
    raise missing_extra("torch", error) from error

Reduced = tuple[Callable[..., Any], tuple[Any, ...]]


def send_in(blocks: Blocks) -> None:
    """From here on this process sends tensors that lie in these blocks by where they lie."""
    ForkingPickler.register(torch.Tensor, partial(_reduced, blocks))


def _reduced(blocks: Blocks, tensor: torch.Tensor) -> Reduced:
    if tensor.dtype == torch.uint8 and tensor.layout == torch.strided and tensor.device.type == "cpu":
        memory = tensor.untyped_storage()  # all of it is sent, as torch does: the tensor may be a view
        sent = blocks.send(memory.data_ptr(), memory.nbytes())
        if sent is not None:
            return _tensor, (sent, tuple(tensor.shape), tensor.stride(), tensor.storage_offset())
    reduced: Reduced = reduce_tensor(tensor)
    return reduced


def _tensor(sent: Sent, shape: tuple[int, ...], stride: tuple[int, ...], first: int) -> torch.Tensor:
    return torch.from_numpy(received(sent)).as_strided(shape, stride, first)
