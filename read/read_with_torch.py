"""Feed a training loop in torch: copy `train`, and put your model in. With --train it trains a small autoencoder.

python read/read_with_torch.py --train --path shards --epochs 2
torchrun --nproc-per-node 2 read/read_with_torch.py --train --path shards --epochs 2

Stop it anywhere and run it again, with as many processes as you like: it goes on with the very next sample.
Without --train everything is read once, as by all readers here:

python read/read_with_torch.py --path shards --num-workers 2 --digest
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from tarloom.cli import run


def train(path: str, member: str, *, batch_size: int, epochs: int, checkpoint: Path, save_every: int) -> None:
    """Until so many epochs are over. batch_size: of a process. checkpoint: where it is gone on from, if it is there."""
    import torch
    from torch import distributed, nn

    import tarloom

    cuda, many = torch.cuda.is_available(), "WORLD_SIZE" in os.environ  # torchrun says so
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if many:
        distributed.init_process_group("nccl" if cuda else "gloo")
    model = autoencoder().to(device)
    trained = nn.parallel.DistributedDataParallel(model) if many else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    # Rank and world size are torch.distributed's. The last step may be too small for all ranks: it is left out.
    shards, crop = tarloom.open(path).select(member), tarloom.RandomResizedCrop(64)
    loader = shards.to_torch(batch_size, seed=0, decode=crop, drop_last=True).loader(pin_memory=cuda)
    parts = {"model": model, "optimizer": optimizer, "feed": loader}
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
    while loader.epoch < epochs:
        for step, batch in enumerate(loader, 1):
            pictures = batch[member].to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
            loss = nn.functional.mse_loss(trained(pictures), pictures)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % save_every == 0:
                save(parts, checkpoint, f"loss {loss.item():.4f}")
        save(parts, checkpoint, "epoch done")
    if many:
        distributed.destroy_process_group()


def autoencoder() -> Any:
    """A small model."""
    from torch import nn

    down = (nn.Conv2d(3, 16, 4, stride=4), nn.GELU(), nn.Conv2d(16, 4, 2, stride=2))
    up = (nn.ConvTranspose2d(4, 16, 2, stride=2), nn.GELU(), nn.ConvTranspose2d(16, 3, 4, stride=4))
    return nn.Sequential(*down, *up)


def save(parts: dict[str, Any], checkpoint: Path, said: str) -> None:
    """By one process for all: the feed's state is the same in each."""
    import torch

    if os.environ.get("RANK", "0") == "0":
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save(states, f"{checkpoint}.new")
        os.replace(f"{checkpoint}.new", checkpoint)
        print(f"epoch {states['feed']['epoch']}, {states['feed']['samples']} samples: {said}", flush=True)


def main() -> int:
    """Train as the words of the command line say."""
    from tarloom.errors import TarloomError, UsageError

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train a small autoencoder instead of only reading")
    parser.add_argument("--path", required=True, help="folder of shards, local or remote")
    parser.add_argument("--member", default="jpg", help="extension of the pictures (default: %(default)s)")
    parser.add_argument(
        "--batch-size", type=int, default=64, help="samples per process and step (default: %(default)s)"
    )
    epochs_help = "stop after this many epochs, counted from the first run (default: %(default)s)"
    parser.add_argument("--epochs", type=int, default=1, help=epochs_help)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint.pt"), help="file (default: %(default)s)")
    saving_help = "save a checkpoint every N steps, and after each epoch (default: %(default)s)"
    parser.add_argument("--save-every", type=int, default=100, metavar="N", help=saving_help)
    options = vars(parser.parse_args())
    del options["train"]
    try:
        if not options["checkpoint"].absolute().parent.is_dir():
            raise UsageError(f"{options['checkpoint']}: its folder is not there; make it, or choose another checkpoint")
        train(**options)
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except TarloomError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main() if "--train" in sys.argv[1:] else run("read", reader="torch"))
