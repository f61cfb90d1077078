"""How good pictures are that were made smaller, ours and img2dataset's, and what they cost.

    python -m benchmarks.picture_quality

Both sides resize the same photo-like JPEGs with the same options, img2dataset by its own Resizer in its own environment
(scripts/peer_venv.sh). Both results are decoded and compared with a reference in floats: the JPEG decoded in full, each
pixel of the result the exact mean of the area it covers. PSNR in dB over red, green and blue; SSIM their mean, in a
Gaussian window of sigma 1.5; both are means over all pictures. `pixels` leaves out the loss of the encoder (PNG instead
of JPEG). CPU is of one call for bytes in and bytes out, the least of several rounds, both sides in turn.

Exit code 1: ours are worse in a case that must not be (all but `pixels`).
"""

import argparse
import io
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.photos import make_photos
from tarloom.create.config import ImageOptions
from tarloom.create.pictures.images import process_picture
from tarloom.create.pictures.scale import shape_of

ROOT: Final = Path(__file__).resolve().parents[1]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Options for both sides."""

    name: str
    options: dict[str, Any]
    must: bool = True
    """Must ours be as good or better?"""


JPEG = {"encode_format": "jpg", "encode_quality": 95}
PNG = {"encode_format": "png", "encode_quality": 1}
CASES = (
    Case(name="keep_ratio 256, q95", options={"image_size": 256, "resize_mode": "keep_ratio", **JPEG}),
    Case(name="keep_ratio 256, pixels", options={"image_size": 256, "resize_mode": "keep_ratio", **PNG}, must=False),
    Case(name="border 256, q95", options={"image_size": 256, "resize_mode": "border", **JPEG}),
    Case(name="center_crop 256, q95", options={"image_size": 256, "resize_mode": "center_crop", **JPEG}),
    Case(name="keep_ratio_largest 512, q95", options={"image_size": 512, "resize_mode": "keep_ratio_largest", **JPEG}),
    Case(name="no, q95", options={"image_size": 256, "resize_mode": "no", **JPEG}),
    Case(name="keep_ratio 64, q95", options={"image_size": 64, "resize_mode": "keep_ratio", **JPEG}),
)

PEER = """
import io, json, sys, time
from pathlib import Path
from img2dataset.resizer import Resizer
paths, output, options = json.loads(sys.stdin.read())
resize = Resizer(resize_only_if_bigger=False, **options)
used = 0.0
for path in paths:
    data = Path(path).read_bytes()
    begun = time.process_time()
    made, *_, error = resize(io.BytesIO(data))
    used += time.process_time() - begun
    assert error is None, (path, error)
    Path(output, Path(path).stem).write_bytes(made)
print(1000 * used / len(paths))
"""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Of one side in one case: means over the pictures."""

    psnr: float
    ssim: float
    kilobytes: float
    ms: float

    def __str__(self) -> str:
        return f"{self.psnr:8.3f} dB  {self.ssim:.5f}  {self.kilobytes:6.1f} KB  {self.ms:5.2f} ms"

    def no_worse_than(self, other: "Quality") -> bool:
        return self.psnr >= other.psnr and self.ssim >= other.ssim


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs to take instead of made ones")
    options = parser.parse_args()
    peer = subprocess.run(
        [ROOT / "scripts/peer_venv.sh", "img2dataset-1.47.0"], capture_output=True, text=True, check=True
    )
    with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-") as folder:
        photos = _photos(options, Path(folder, "photos"))
        print(f"{len(photos)} JPEGs; mean PSNR, SSIM, size, and CPU of a picture")
        kept = [_compare(case, photos, peer.stdout.strip(), Path(folder), options.rounds) for case in CASES]
    sys.exit(0 if all(kept) else 1)


def _photos(options: argparse.Namespace, folder: Path) -> list[Path]:
    if options.photos is None:
        return make_photos(folder, options.count)
    return sorted(path for path in options.photos.iterdir() if path.suffix in (".jpg", ".jpeg"))[: options.count]


def _compare(case: Case, photos: list[Path], peer: str, folder: Path, rounds: int) -> bool:
    """Run both sides and print what they made. Is ours good enough?"""
    ours, theirs = folder / "ours", folder / "theirs"
    costs: list[tuple[float, float]] = []
    for place in (ours, theirs):
        place.mkdir(exist_ok=True)
    for _ in range(rounds):
        costs.append((_run_ours(case, photos, ours), _run_theirs(case, photos, theirs, peer)))
    options = ImageOptions(**case.options)
    found = [_measure(path, [place / path.stem for place in (ours, theirs)], options) for path in photos]
    mine, other = (
        Quality(**{name: statistics.fmean(each[side][name] for each in found) for name in found[0][side]}, ms=min(ms))
        for side, ms in enumerate(zip(*costs, strict=True))
    )
    good = mine.no_worse_than(other)
    print(f"{case.name:28} tarloom     {mine}")
    print(f"{'':28} img2dataset {other}   {'no worse' if good else 'WORSE' if case.must else 'less'}", flush=True)
    return good or not case.must


def _run_ours(case: Case, photos: list[Path], output: Path) -> float:
    options = ImageOptions(**case.options)
    used = 0.0
    for path in photos:
        data = path.read_bytes()
        begun = time.process_time()
        made = process_picture(data, options)
        used += time.process_time() - begun
        (output / path.stem).write_bytes(made.data)
    return 1000 * used / len(photos)


def _run_theirs(case: Case, photos: list[Path], output: Path, peer: str) -> float:
    asked = json.dumps([[str(path) for path in photos], str(output), case.options])
    ended = subprocess.run([peer, "-W", "ignore", "-c", PEER], input=asked, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"img2dataset's resizer failed:\n{ended.stderr}")
    return float(ended.stdout)


def _measure(photo: Path, made: list[Path], options: ImageOptions) -> list[dict[str, float]]:
    """Quality and size of what several sides made of a photo."""
    wanted = _reference(_rgb(photo.read_bytes()), options)
    found = []
    for path in made:
        data = path.read_bytes()
        shown = _rgb(data).astype(np.float64)
        found.append({"psnr": _psnr(shown, wanted), "ssim": _ssim(shown, wanted), "kilobytes": len(data) / 1000})
    return found


def _rgb(data: bytes) -> npt.NDArray[np.uint8]:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def _reference(pixels: npt.NDArray[np.uint8], options: ImageOptions) -> Floats:
    """What the picture should become, in floats. Padding and cropping are whole pixels: they come from the library."""
    shape = shape_of((pixels.shape[0], pixels.shape[1]), options)
    rows, columns = (_boxes(old, new) for old, new in zip(pixels.shape[:2], shape.scaled, strict=True))
    scaled = np.einsum("vhc,wh->vwc", np.tensordot(rows, pixels.astype(np.float64), axes=1), columns, optimize=True)
    return scaled if shape.canvas == shape.scaled else _on_canvas(scaled, shape.canvas)


def _on_canvas(scaled: Floats, canvas: tuple[int, int]) -> Floats:
    """In the middle of white, or the middle of it."""
    missing = [new - old for new, old in zip(canvas, scaled.shape[:2], strict=True)]
    cut = [slice(max(0, -more // 2), max(0, -more // 2) + new) for more, new in zip(missing, canvas, strict=True)]
    around = [(max(0, more) // 2, max(0, more) - max(0, more) // 2) for more in missing]
    return np.pad(scaled[cut[0], cut[1]], [*around, (0, 0)], constant_values=255)


def _boxes(old: int, new: int) -> Floats:
    """Weights (new, old) by which each new pixel is the mean of the old ones it covers."""
    edges = np.linspace(0, old, new + 1)
    upper = np.minimum(edges[1:, None], np.arange(1, old + 1))
    lower = np.maximum(edges[:-1, None], np.arange(old))
    return np.asarray(np.clip(upper - lower, 0, None) * new / old)


def _psnr(shown: Floats, wanted: Floats) -> float:
    return 10 * math.log10(255**2 / float(np.mean((shown - wanted) ** 2)))


def _ssim(shown: Floats, wanted: Floats) -> float:
    """Wang et al. 2004, each colour by itself."""

    def smooth(values: Floats) -> Floats:
        return np.asarray(cv2.GaussianBlur(values, (11, 11), 1.5))[5:-5, 5:-5]

    mean, other = smooth(shown), smooth(wanted)
    spread, other_spread = smooth(shown * shown) - mean**2, smooth(wanted * wanted) - other**2
    shared = smooth(shown * wanted) - mean * other
    low, lower = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    likeness = (2 * mean * other + low) * (2 * shared + lower)
    return float(np.mean(likeness / ((mean**2 + other**2 + low) * (spread + other_spread + lower))))


if __name__ == "__main__":
    main()
