"""JPEGs that are decoded where the model runs: by nvjpeg on a GPU, through torchvision.

Its pixels differ from those of every other decoder by a level or two, and it says nothing of a file that was cut off.
So it is given plain and whole JPEGs alone; all other pictures are decoded as ever.
"""

from collections.abc import Sequence
from typing import Any

from tarloom.errors import ImageError, missing_extra
from tarloom.process.batch import MAX_ASPECT_RATIO
from tarloom.read.samples.decode import plain_jpeg_size

try:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg
except (ImportError, RuntimeError) as error:  # torchvision of another build than torch's fails as it pleases
    raise missing_extra("torch", ImportError(str(error), name="torchvision")) from error

END_OF_IMAGE = b"\xff\xd9"


def is_plain(data: bytes) -> bool:
    """Whether nothing is to be said of this picture but its pixels."""
    if not data.endswith(END_OF_IMAGE):
        return False
    try:
        size = plain_jpeg_size(data)
    except ImageError:
        return False
    return size is not None and max(size) <= MAX_ASPECT_RATIO * min(size)


def decoded(stored: Sequence[bytes], device: Any) -> "list[torch.Tensor | None]":
    """uint8 of shape (3, height, width) on the device; None for what it does not take."""
    tensors = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in stored]
    try:
        return list(decode_jpeg(tensors, mode=ImageReadMode.RGB, device=device))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return [None] if len(stored) == 1 else [decoded([data], device)[0] for data in stored]
