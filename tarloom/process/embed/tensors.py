"""Pictures as tensors that a vision tower takes, and where and in what numbers it computes.

The tensors are, bit for bit, those of transformers' processors (with torchvision), and within two levels of 255 those
of open_clip's, which resizes with Pillow. They take a half to a third of the time: a picture's rows are resized as they
lie, and normalised a pass at a time.
"""

import numpy as np

from tarloom.errors import missing_extra
from tarloom.process.embed.encoder import Fitting

try:
    import torch
    from torch.nn.functional import interpolate
except ImportError as error:
    raise missing_extra("torch", error) from error


def place(dtype: str) -> "tuple[torch.device, torch.dtype]":
    """Where a model runs, and what it computes in. dtype: auto is float32 on a CPU, float16 on a GPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if dtype == "auto":
        dtype = "float16" if device.type == "cuda" else "float32"
    return device, getattr(torch, dtype)


def fitted(rgb: np.ndarray, fitting: Fitting) -> "torch.Tensor":
    """A picture resized and cropped: uint8 of shape (3, height, width). rgb: uint8 of shape (height, width, 3)."""
    writable = rgb if rgb.flags.writeable else rgb.copy()  # torch warns of what it could write to
    return fitted_tensor(torch.from_numpy(writable).permute(2, 0, 1), fitting)


def fitted_tensor(picture: "torch.Tensor", fitting: Fitting) -> "torch.Tensor":
    """The same of a picture of shape (3, height, width), wherever it lies."""
    size = _resized(picture.shape[-2], picture.shape[-1], fitting.resize)
    pixels = picture[None] if picture.device.type == "cpu" else picture[None].float()  # GPUs resize no bytes
    resized = interpolate(pixels, size=size, mode=fitting.resample, antialias=True, align_corners=False)
    if resized.is_floating_point():
        resized = resized.round_().clamp_(0, 255).to(torch.uint8)
    (height, width), half = fitting.crop, round if fitting.half_up else int
    top, left = half((size[0] - height) / 2.0), half((size[1] - width) / 2.0)
    return resized[0, :, top : top + height, left : left + width]


def normalised(pixels: "torch.Tensor", fitting: Fitting) -> "torch.Tensor":
    """Bytes of shape (pictures, 3, height, width) as the float32 that the model was trained on."""
    mean, std = (
        torch.tensor(values, device=pixels.device)[:, None, None] * (1.0 / fitting.scale)
        for values in (fitting.mean, fitting.std)
    )
    return pixels.float().sub_(mean).div_(std)


def unit(features: "torch.Tensor") -> "torch.Tensor":
    """Rows of length one, float32."""
    vectors = features.float()
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def _resized(height: int, width: int, resize: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(resize, tuple):
        return resize
    if height <= width:
        return resize, int(resize * width / height)
    return int(resize * height / width), resize
