"""Photo-like JPEGs for benchmarks: 480 to 1200 pixels a side, about 120 KB on average, the same for the same seed.

Where photographs are not to be had, what matters of them is made: brightness that falls with 1/f, shading, objects with
sharp and with blurred edges, fine texture in places, sensor grain, and the qualities and chroma samplings that cameras
and web sites use.

    python benchmarks/photos.py FOLDER [COUNT] [SEED]
"""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

Pixels = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]

RATIOS = (1.0, 4 / 3, 3 / 2, 16 / 9)
QUALITIES = (75, 80, 85, 88, 90, 94)
FIELD_SIDE = 1280


def make_photos(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Write `count` JPEGs into a folder, 000000.jpg and so on; those that are there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:06d}.jpg" for number in range(count)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for _ in pool.map(partial(_write, folder, seed), missing, chunksize=16):
            pass
    return paths


def photo(seed: int, number: int) -> tuple[Pixels, np.random.Generator]:
    """One picture as RGB, and the generator that chose it."""
    chance = np.random.default_rng([seed, number])
    height, width = _size(chance)
    scene = _shading(chance, height, width) + chance.uniform(20, 60) * _crop(chance, _clouds(), height, width)
    scene = _with_objects(chance, scene)
    scene += _texture(chance, height, width)[..., None]
    return np.clip(scene, 0, 255).astype(np.uint8), chance


def jpeg(seed: int, number: int) -> bytes:
    """One picture as its camera or web site would have stored it."""
    pixels, chance = photo(seed, number)
    sampling = "444" if chance.random() < 0.3 else "420"
    quality = int(chance.choice(QUALITIES))
    return bytes(simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling=sampling))


def _write(folder: Path, seed: int, number: int) -> None:
    cv2.setNumThreads(1)
    unfinished = folder / f".tmp-{number:06d}"
    unfinished.write_bytes(jpeg(seed, number))
    unfinished.rename(folder / f"{number:06d}.jpg")


def _size(chance: np.random.Generator) -> tuple[int, int]:
    ratio = chance.choice(RATIOS)
    longer = int(chance.integers(int(480 * ratio) + 1, 1201))
    sides = (max(480, round(longer / ratio)), longer)
    return sides if chance.random() < 0.7 else sides[::-1]


@cache
def _clouds() -> Field:
    """Brightness and colour that fall with 1/f: (side, side, 3), mean 0, deviation 1."""
    chance = np.random.default_rng(1)
    frequency = np.hypot(np.fft.fftfreq(FIELD_SIDE)[:, None], np.fft.rfftfreq(FIELD_SIDE)[None])
    frequency[0, 0] = np.inf
    fields = [_falling(chance, frequency) for _ in range(3)]
    brightness, *colours = fields
    rgb = [brightness + 0.25 * colours[0], brightness - 0.15 * sum(colours), brightness + 0.25 * colours[1]]
    return np.stack(rgb, axis=-1).astype(np.float32)


@cache
def _grain() -> Field:
    """Sensor noise, slightly smoothed as by a camera: (side, side), deviation 1."""
    noise = np.random.default_rng(2).standard_normal((FIELD_SIDE, FIELD_SIDE)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 0.6)
    return np.asarray(smooth / smooth.std(), dtype=np.float32)


def _falling(chance: np.random.Generator, frequency: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    waves = np.fft.rfft2(chance.standard_normal((FIELD_SIDE, FIELD_SIDE))) / frequency**1.2
    field = np.fft.irfft2(waves, s=(FIELD_SIDE, FIELD_SIDE))
    return np.asarray(field / field.std())


def _crop(chance: np.random.Generator, field: Field, height: int, width: int) -> Field:
    top = int(chance.integers(0, field.shape[0] - height + 1))
    left = int(chance.integers(0, field.shape[1] - width + 1))
    return field[top : top + height, left : left + width]


def _shading(chance: np.random.Generator, height: int, width: int) -> Field:
    """Light that changes from corner to corner."""
    corners = chance.uniform(40, 215, (2, 2, 1)) + chance.uniform(-30, 30, (2, 2, 3))
    return np.asarray(cv2.resize(corners.astype(np.float32), (width, height)), dtype=np.float32)


def _with_objects(chance: np.random.Generator, scene: Field) -> Field:
    """Discs and polygons in front of the scene, the first ones out of focus; then lines such as wires and letters."""
    height, width = scene.shape[:2]
    for number in range(int(chance.integers(6, 20))):
        colour = tuple(map(float, chance.uniform(50, 205) + chance.uniform(-50, 50, 3)))
        centre = (int(chance.integers(0, width)), int(chance.integers(0, height)))
        axes = (int(chance.integers(8, width // 4)), int(chance.integers(8, height // 4)))
        if number % 2:
            cv2.ellipse(scene, centre, axes, float(chance.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
        else:
            corners = np.array(centre) + chance.integers(-axes[0], axes[0], (int(chance.integers(3, 7)), 2))
            cv2.fillPoly(scene, [corners.astype(np.int32)], colour, cv2.LINE_AA)
        if number == 2:
            scene = np.asarray(cv2.blur(cv2.blur(scene, (9, 9)), (9, 9)), dtype=np.float32)
    for _ in range(int(chance.integers(4, 30))):
        ends = chance.integers(0, min(height, width), (2, 2))
        grey = float(chance.uniform(0, 255))
        cv2.line(scene, ends[0].tolist(), ends[1].tolist(), (grey,) * 3, int(chance.integers(1, 4)), cv2.LINE_AA)
    return scene


def _texture(chance: np.random.Generator, height: int, width: int) -> Field:
    """Grain everywhere, and fabric, grass or bricks (waves and stronger grain) in some part of the picture."""
    texture = chance.uniform(0.5, 2.5) * _crop(chance, _grain(), height, width)
    rows, columns = int(chance.integers(60, height // 2)), int(chance.integers(60, width))
    top, left = int(chance.integers(0, height - rows)), int(chance.integers(0, width - columns + 1))
    part = texture[top : top + rows, left : left + columns]
    across = np.arange(columns, dtype=np.float32) * chance.uniform(0.3, 1.8)
    down = np.arange(rows, dtype=np.float32)[:, None] * chance.uniform(0.3, 1.8)
    part += chance.uniform(4, 16) * (np.sin(across) * np.sin(down)).astype(np.float32)
    part += chance.uniform(2, 10) * _crop(chance, _grain(), rows, columns)
    return texture.astype(np.float32)


if __name__ == "__main__":
    made = make_photos(Path(sys.argv[1]), *map(int, sys.argv[2:4] or ["3000"]))
    print(f"{len(made)} pictures, {sum(path.stat().st_size for path in made) / len(made) / 1000:.0f} KB on average")
