"""One rank of several that torchrun starts: FOLDER OUTPUT. It feeds an epoch, and says what it saw at each step."""

import json
import sys
from pathlib import Path

import torch
from torch import distributed

import tarloom


def main(folder: str, output: Path) -> None:
    distributed.init_process_group("gloo")
    feed = tarloom.open(folder).select("json").to_torch(7, seed=3)
    steps, states, samples = [], [], torch.zeros(1, dtype=torch.int64)
    for batch in feed:
        together = torch.tensor([len(batch["__key__"])])
        distributed.all_reduce(together)  # waits for ever where ranks have unequal numbers of steps
        samples += together
        steps.append(list(batch["__key__"]))
        states.append(feed.state_dict())
    said = {"steps": steps, "states": states, "samples": samples.item(), "epoch": feed.epoch}
    (output / f"{distributed.get_rank()}.json").write_text(json.dumps(said))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
