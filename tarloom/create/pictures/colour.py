"""Colours to sRGB, as all training code takes them to be.

Most profiles that pictures carry are sRGB in one of many spellings: a profile counts as sRGB where it moves no colour
of a coarse grid by more than a few levels, and is then ignored. What a profile does is found out once for each.
"""

from functools import lru_cache
from io import BytesIO
from itertools import product

import numpy as np
from PIL import Image, ImageCms

from tarloom.format.pictures import Pixels

LARGEST_PROFILE = 4 << 20
UNSEEN_LEVELS = 3
"""Of 255: colours that a profile moves by no more than this stay as they are."""

_SPACES = {("RGB ", 3): "RGB", ("CMYK", 4): "CMYK", ("GRAY", 1): "L"}
"""Pillow's mode by the profile's colour space and the picture's channels."""
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def to_srgb(pixels: Pixels, profile: bytes, *, grey: bool = False) -> Pixels:
    """RGB as an sRGB display shows it.

    pixels: RGB, or CMYK in four channels. profile: ICC; one that is broken or for other channels is ignored.
    grey: the picture is stored in grey, its three channels are equal.
    """
    mode, transform = _known(profile, 1 if grey else pixels.shape[2])
    if transform is None:
        return pixels if pixels.shape[2] == 3 else np.array(_image(pixels, "CMYK").convert("RGB"))
    changed = ImageCms.applyTransform(_image(pixels[..., :1] if grey else pixels, mode), transform)
    return np.array(changed)


def changes_colours(profile: bytes, channels: int) -> bool:
    """Does it take a transform to show pixels of so many channels (1: grey) as sRGB?"""
    return _known(profile, channels)[1] is not None


def _known(profile: bytes, channels: int) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    return _transform(profile, channels) if 0 < len(profile) <= LARGEST_PROFILE else ("", None)


@lru_cache(maxsize=64)
def _transform(profile: bytes, channels: int) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """The transform to sRGB and the mode it takes; None where there is nothing to do, or no way to do it."""
    try:
        opened = ImageCms.ImageCmsProfile(BytesIO(profile))
        mode = _SPACES.get((opened.profile.xcolor_space, channels), "")
        transform = _built(opened, mode) if mode else None
    except (ImageCms.PyCMSError, OSError, ValueError):  # A broken profile says nothing about the colours.
        return "", None
    return mode, None if transform is None or _changes_nothing(transform, mode) else transform


def _built(profile: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    return ImageCms.buildTransform(profile, _SRGB, mode, "RGB", ImageCms.Intent.PERCEPTUAL, flags)


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    if mode == "CMYK":
        return False
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    shown = list(product(levels, repeat=3)) if mode == "RGB" else [(level,) * 3 for level in levels]
    grid = np.array([shown], dtype=np.uint8)
    changed = np.array(ImageCms.applyTransform(_image(grid if mode == "RGB" else grid[..., :1], mode), transform))
    return int(np.abs(changed.astype(int) - grid).max()) <= UNSEEN_LEVELS


def _image(pixels: Pixels, mode: str) -> Image.Image:
    return Image.frombytes(mode, (pixels.shape[1], pixels.shape[0]), np.ascontiguousarray(pixels).tobytes())
