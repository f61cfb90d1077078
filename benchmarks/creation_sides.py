"""The two sides of creation benchmarks: our program and img2dataset 1.47's, with the same options."""

import argparse
import subprocess
import sys
from pathlib import Path

PEER = "img2dataset-1.47.0"
SIDES = ("tarloom", "img2dataset")
PROCESSES = 2
ROOT = Path(__file__).resolve().parents[1]


def peer_program() -> str:
    """img2dataset's program, in an environment of its own; it is made on the first run."""
    made = subprocess.run([ROOT / "scripts/peer_venv.sh", PEER], stdout=subprocess.PIPE, text=True)
    if made.returncode:
        sys.exit(f"{PEER} is not to be had: see above; nothing was measured")
    return str(Path(made.stdout.strip()).with_name("img2dataset"))


def commands(peer: str, urls: Path, options: argparse.Namespace, *, as_they_come: bool = False) -> dict[str, list[str]]:
    """Each side's command, with 256 pixels, keep_ratio and q95, or without re-encoding; where to lacks yet.

    options: `threads` for each process and `rows` for each shard. The others are img2dataset's defaults.
    """
    same = {
        "image_size": 256,
        "resize_mode": "keep_ratio",
        "encode_quality": 95,
        "thread_count": options.threads,
        "number_sample_per_shard": options.rows,
        "timeout": 10,
        "retries": 0,
    }
    ours = {**same, "source": urls, "num_workers": PROCESSES, "allow_private": "127.0.0.0/8"}
    ours |= {"host_connections": options.threads}  # the peer has no such limit
    theirs = {**same, "url_list": urls, "processes_count": PROCESSES, "output_format": "webdataset"}
    ours_said = [f"--{name.replace('_', '-')}={value}" for name, value in ours.items()]
    theirs_said = [f"--{name}={value}" for name, value in theirs.items()]
    program = [sys.executable, str(ROOT / "create/create_webdataset.py")]
    return {
        "tarloom": [*program, *ours_said, *(["--disable-all-reencoding"] if as_they_come else [])],
        "img2dataset": [peer, *theirs_said, f"--disable_all_reencoding={as_they_come}"],
    }
