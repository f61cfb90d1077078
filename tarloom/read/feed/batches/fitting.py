"""From a picture's bytes to the pixels that a Fit wants: decoded no larger than needed, cut, scaled, mirrored."""

import threading
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from tarloom.format.pictures import Pixels, Size, decode_jpeg, decode_top
from tarloom.read.feed.batches.pictures import Fit, Part
from tarloom.read.samples.decode import PlainJpeg, decode_rgb, plain_jpeg

_KEPT_BYTES = 16 << 20
"""Larger pictures get fresh memory each."""
_WORTH_ROWS = 16
"""Fewer rows below a part are decoded with it: a JPEG has 8 or 16 in one piece."""
_ALIGNED, _ASIDE = 32, 16
"""What is decoded into begins 16 bytes behind a multiple of 32. At a multiple itself libjpeg-turbo (jdcolext-avx2.asm)
writes pixels past the processor's cache, but all of them are read again at once: that took a tenth of the time."""

cv2.setNumThreads(1)  # Pictures are worked on side by side; threads within one small picture only cost time.


class _Memory(threading.local):
    """What this thread decodes into."""

    bytes: npt.NDArray[np.uint8] = np.empty(0, np.uint8)


_memory = _Memory()


def fit_into(out: Pixels, fit: Fit, data: bytes | memoryview, draws: Sequence[float]) -> None:
    """Fill `out`, which has the fit's shape. draws: see Fit. Raises ImageError."""
    jpeg = plain_jpeg(data)
    if jpeg is None:
        pixels = decode_rgb(data)
        part = fit.part((pixels.shape[0], pixels.shape[1]), draws)
    else:
        pixels, part = _decoded(data, jpeg, fit.part(jpeg.size, draws), fit.shape)
    _put(out, pixels[part.top : part.top + part.height, part.left : part.left + part.width], part.mirrored)


def _decoded(data: bytes | memoryview, jpeg: PlainJpeg, part: Part, shape: Size) -> tuple[Pixels, Part]:
    """No more of it than the part needs, and where the part lies in that."""
    size, needed, rows = jpeg.size, _needed(jpeg.size, part, shape), part.top + part.height + 1
    is_whole = 2 * needed[0] > size[0] + 1 or 2 * needed[1] > size[1] + 1  # half its size would be too small
    if is_whole and jpeg.rows_at and rows + _WORTH_ROWS <= size[0]:
        top = rows, size[1]
        return decode_top(data, top, rows_at=jpeg.rows_at, memory=memory_for(top)), part
    pixels = decode_jpeg(data, at_least=needed, memory=memory_for(size))
    return pixels, _scaled(part, size, pixels)


def _put(out: Pixels, part: Pixels, mirrored: bool) -> None:
    if part.shape != out.shape:
        # Below 2 the four pixels around a place are all there are for it, and adding up areas takes 5 times as long.
        far = part.shape[0] >= 2 * out.shape[0] or part.shape[1] >= 2 * out.shape[1]
        method = cv2.INTER_AREA if far else cv2.INTER_LINEAR
        cv2.resize(part, out.shape[1::-1], dst=out, interpolation=method)
        if mirrored:
            cv2.flip(out, 1, dst=out)
    elif mirrored:  # numpy takes 30 times as long to copy backwards
        cv2.flip(part, 1, dst=out)
    else:
        out[:] = part


def _needed(size: Size, part: Part, shape: Size) -> Size:
    """What the whole picture must be decoded to."""
    if part[2:4] == shape:
        return size
    return -(-size[0] * shape[0] // part.height), -(-size[1] * shape[1] // part.width)


def _scaled(part: Part, size: Size, pixels: Pixels) -> Part:
    """The part where the picture was decoded at so many eighths of its size."""
    if pixels.shape[:2] == size:
        return part
    eighths = round(8 * max(pixels.shape[:2]) / max(size))
    top, left = round(part.top * eighths / 8), round(part.left * eighths / 8)
    bottom, right = round((part.top + part.height) * eighths / 8), round((part.left + part.width) * eighths / 8)
    return Part(top, left, max(bottom - top, 1), max(right - left, 1), part.mirrored)


def memory_for(size: Size) -> npt.NDArray[np.uint8] | None:
    """What this thread decodes a picture of this size into; None for a large one."""
    wanted = size[0] * size[1] * 3
    if wanted > _KEPT_BYTES:
        return None
    if len(_memory.bytes) < wanted:
        _memory.bytes = _not_aligned(wanted)
    return _memory.bytes


def _not_aligned(size: int) -> npt.NDArray[np.uint8]:
    memory = np.empty(size + 2 * _ALIGNED, np.uint8)
    first = -memory.ctypes.data % _ALIGNED + _ASIDE
    return memory[first : first + size]
