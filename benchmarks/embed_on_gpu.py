"""Where the time goes when a GPU embeds: python -m benchmarks.embed_on_gpu

For CLIP of the shapes of ViT-B/32 and ViT-L/14 with random weights: images a second from shards to sidecars, with JPEGs
decoded by the CPU and by the GPU; beside the bare model on pixels that lie on the GPU already, and beside what its
floating-point operations would take at the rate of a large matrix product, measured here. The GPU is in the model for
the street's rate over the bare model's; what is slower than the bare model names the bottleneck.

Without a GPU it runs on the CPU, to be tried with --shapes tiny.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from benchmarks.processing.street import in_this_process, pictures_of
from benchmarks.reading.data import make_dataset
from tarloom.process.batch import AT_LEAST, Decoder
from tarloom.process.embed.jpegs import decoded
from tarloom.process.embed.stage import EmbedStage
from tarloom.process.embed.vectors import Vectors

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2},
    "ViT-B/32": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "ViT-L/14": {
        **{"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
        "patch_size": 14,
    },
}
SECONDS = 3.0
"""For which the bare model, the decoders and the matrix product run."""


def main() -> int:
    """Measure each shape and print what took the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["ViT-B/32", "ViT-L/14"])
    parser.add_argument("--shards", type=int, default=9, help="the first warms up (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=4000, help="a shard (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=512, help="the stage's (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tarloom-benchmark-") as folder:
        shards = str(Path(folder, "shards"))
        make_dataset(Path(shards), shards=options.shards, samples=options.samples)
        matrix, (cpu, gpu) = matrix_rate(), decode_rates(pictures_of(shards)[0][:256])
        print(
            f"matrix product {matrix / 1e12:.2f} TFLOP/s; decode {cpu:.0f} images/s by the CPU, {gpu:.0f} by {DEVICE}"
        )
        for shape in options.shapes:
            model = random_model(Path(folder, shape.replace("/", "-")), shape)
            bare, work = bare_rate(model, options.batch_size)
            print(f"{shape}: bare model {bare:.0f} images/s, {bare * work / matrix:.0%} of the matrix rate")
            for decode in ("cpu", "gpu"):
                rate = street_rate(shards, EmbedStage(model=model, decode=decode, batch_size=options.batch_size))
                print(f"{shape}, shards to sidecars, decode {decode}: {rate:.0f} images/s, {rate / bare:.0%} of bare")
    return 0


def rate_of(work: Callable[[], object], amount: float) -> float:
    """How much a second, when one call does this amount."""
    work()
    _wait()
    calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        work()
        _wait()
        calls += 1
    return amount * calls / (time.perf_counter() - started)


def matrix_rate() -> float:
    """Floating-point operations a second of a large matrix product."""
    side, kind = (8192, torch.float16) if DEVICE == "cuda" else (1024, torch.float32)
    one = torch.randn(side, side, device=DEVICE, dtype=kind)
    return rate_of(lambda: one @ one, 2.0 * side**3)


def decode_rates(stored: list[bytes]) -> tuple[float, float]:
    """Images a second by the street's decoder, and by torchvision's on the device."""
    decoder = Decoder()
    rows = pa.RecordBatch.from_pydict({"jpg": pa.array(stored, pa.binary())})
    cpu = rate_of(lambda: decoder(rows, AT_LEAST), len(stored))
    decoder.close()
    return cpu, rate_of(lambda: decoded(stored, DEVICE), len(stored))


def random_model(folder: Path, shape: str) -> str:
    """A model folder with random weights."""
    CLIPModel(CLIPConfig(vision_config=SHAPES[shape])).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    return str(folder)


def bare_rate(model: str, batch_size: int) -> tuple[float, float]:
    """Images a second of the model alone, and the floating-point operations of its matrix products for one."""
    stage = EmbedStage(model=model, batch_size=batch_size)
    vectors, rows = Vectors(stage), batch_size // stage.calls
    encoder = vectors._encoder
    pixels = torch.zeros((rows, 3, *encoder.fitting.crop), dtype=torch.uint8, device=encoder.device)
    with torch.inference_mode():
        rate = rate_of(lambda: vectors._see(pixels), rows)
    vision = CLIPConfig.from_pretrained(model).vision_config
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    linear = 4 * vision.hidden_size**2 + 2 * vision.hidden_size * vision.intermediate_size
    attention = 2 * tokens * vision.hidden_size
    vectors.close()
    return rate, 2.0 * tokens * vision.num_hidden_layers * (linear + attention)


def street_rate(shards: str, stage: EmbedStage) -> float:
    """Images a second from shards to sidecars, once the first shard is done."""
    running = in_this_process(shards, {"bench": stage})
    next(running)
    started = time.perf_counter()
    rows = next(running)
    seconds = time.perf_counter() - started
    next(running, None)
    return rows / seconds


def _wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
