"""The main job, end to end: a list of URLs becomes captioned, embedded, verified shards and a report to look at.

Run by scripts/quickstart.sh once everything is installed. Every step is one of the programs, called as you would type
it; the command lines are shown. Needs no network: a web server on loopback serves source_data/, good and bad addresses.
Ends with exit code 0 only if every row is accounted for, every reader agrees, and every bad address got its error.
"""

import argparse
import contextlib
import json
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from quickstart_checks import find_problems
from quickstart_runner import ROOT, Runner, Step, StepFailed, environment, executable
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tarloom.engines.signals import stop_as_by_ctrl_c

MARK: Final = ".made-by-quickstart"
PORT: Final = 8765
TIMEOUT, TRIES, PAUSES = 3, 3, 1.5
"""Seconds of a try, tries of a row, and seconds between them: what a row may take at most."""
SLACK_SECONDS: Final = 120
"""For all else that a shard takes, on a machine that is slow and has much to do. Rows that never end take for ever."""
READERS: Final = {
    "webdataset": "read_webdataset.py",
    "torch": "read_with_torch.py",
    "Spark": "read_with_spark.py",
    "Ray actors": "read_with_ray_actor.py",
    "Ray Data": "read_with_ray_data.py",
    "Ray Data's own read_webdataset": "read_with_ray_data_webdataset.py",
}
QUERIES: Final = (
    "a purple cross above a white star on a blue background",
    "a yellow square on a green background",
    "a red circle on a blue background",
    "a blue triangle left of a purple triangle on a red background",
)

console = Console(stderr=True, highlight=False)


def main() -> int:
    stop_as_by_ctrl_c()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, default=Path("quickstart_output"), help="folder to make (default: %(default)s)"
    )
    output = parser.parse_args().output
    if not _make_output(ROOT / output):
        console.print(
            f"quickstart: error: {output} is there and was not made by the quickstart; choose another --output"
        )
        return 2
    started = time.monotonic()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[tail]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        runner = Runner(logs=ROOT / output / "logs", progress=progress)
        try:
            _run_steps(runner, output)
        except StepFailed as failure:
            console.print(f"quickstart: error: {failure}", markup=False)
            return 1
        except KeyboardInterrupt:
            console.print("quickstart: interrupted; run it again to start anew")
            return 130
        finally:
            runner.stop()
    problems = find_problems(
        urls=ROOT / output / "urls.csv",
        shards=ROOT / output / "shards",
        facts={name: done.facts for name, done in runner.done.items()},
        longest_shard=TRIES * TIMEOUT + PAUSES + SLACK_SECONDS,
    )
    _sum_up(runner, output, problems, time.monotonic() - started)
    return 1 if problems else 0


def _run_steps(runner: Runner, output: Path) -> None:
    """All steps, in order."""
    shards, models = f"{output}/shards", "source_data/models"
    with _photo_server(runner, output) as port:
        _write_urls(port, ROOT / output / "urls.csv")
        runner.run(_create(output))
    readers = [
        Step(name=f"read: {name}", command=("python", f"read/{program}", "--path", shards, "--digest", "--json"))
        for name, program in READERS.items()
    ]
    runner.run_side_by_side(readers, lanes=2)
    on_ray = ("--engine", "ray", "--json")
    caption = ("python", "process/caption_with_vllm.py", "--path", shards, "--model", f"{models}/captioner", *on_ray)
    embed = ("python", "process/embed_with_clip.py", "--path", shards, "--model", f"{models}/clip", *on_ray)
    runner.run(Step(name="caption", command=caption))
    runner.run(Step(name="embed", command=embed))
    runner.run(Step(name="verify", command=("tarloom", "verify", "--path", shards, "--json")))
    _write_runs(runner, ROOT / output / "runs.json")
    runner.run(_report(output, f"{models}/clip"))


def _create(output: Path) -> Step:
    limits = ("--timeout", str(TIMEOUT), "--retries", str(TRIES - 1), "--max-bytes", "4000000")
    shape = ("--image-size", "128", "--number-sample-per-shard", "64")
    columns = ("--caption-col", "caption", "--save-additional-columns", "cls", "seed")
    where = ("--source", f"{output}/urls.csv", "--output", f"{output}/shards")
    command = ("python", "create/create_with_ray.py", *where, *columns, *shape, *limits)
    return Step(name="create", command=(*command, "--allow-private", "127.0.0.0/8", "--json"))


def _report(output: Path, clip: str) -> Step:
    look = ("--title", "tarloom quickstart", "--runs", f"{output}/runs.json")
    search = ("--clip-model", clip, "--queries", *QUERIES)
    where = ("--path", f"{output}/shards", "--output", str(output))
    return Step(name="report", command=("tarloom", "report", *where, *look, *search, "--json"))


@contextlib.contextmanager
def _photo_server(runner: Runner, output: Path) -> Iterator[int]:
    """source_data/serve.py, until the block ends; on its usual port if that is free."""
    port = _free_port()
    command = ("python", "source_data/serve.py", "--port", str(port))
    console.print(f"[dim]$ {shlex.join(command)} &[/dim]")
    with (ROOT / output / "logs" / "serve.out").open("wb") as log:
        server = subprocess.Popen(executable(command), cwd=ROOT, stdout=log, stderr=log, env=environment())
    runner.running.append(server)
    try:
        _wait_for(port, server)
        yield port
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise StepFailed("the web server does not answer; see logs/serve.out")


def _free_port() -> int:
    for port in (PORT, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise StepFailed("no port is free on 127.0.0.1")


def _write_urls(port: int, path: Path) -> None:
    text = (ROOT / "source_data" / "urls.csv").read_text(encoding="utf-8")
    path.write_text(text.replace(f"127.0.0.1:{PORT}", f"127.0.0.1:{port}"), encoding="utf-8")


def _write_runs(runner: Runner, path: Path) -> None:
    """The rates that the report draws."""
    names = ("create", "caption", "embed", *(f"read: {name}" for name in READERS))
    runs = [
        {
            "name": name,
            "rows": runner.done[name].rows,
            "seconds": runner.done[name].facts["seconds"],
            "whole_seconds": runner.done[name].seconds,
        }
        for name in names
    ]
    path.write_text(json.dumps(runs, indent=1))


def _sum_up(runner: Runner, output: Path, problems: Sequence[str], seconds: float) -> None:
    """The table of steps, what was proved, and where to look; on stdout."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("step", "rows", "rows/s at work", "seconds in all"):
        table.add_column(name, justify="left" if name == "step" else "right")
    for done in runner.done.values():
        speed = f"{done.rows / max(done.facts['seconds'], 0.001):,.0f}" if done.rows else ""
        table.add_row(done.step.name, f"{done.rows:,}" if done.rows else "", speed, f"{done.seconds:.1f}")
    page = Console(highlight=False, soft_wrap=True)
    page.print(table)
    create = runner.done["create"].facts
    failed = create["rows"] - create["successes"]
    if problems:
        for problem in problems:
            page.print(f"✗ {problem}", markup=False)
        page.print(f"The quickstart found {len(problems)} things wrong (logs: {runner.logs}).", style="bold red")
        return
    page.print(
        f"\n{create['rows']} addresses: {create['successes']} became samples, {failed} failed as they should. "
        f"{len(READERS)} readers agree. Everything is verified. {seconds:.0f} s.\n",
    )
    page.print("Look here:", style="bold")
    for name in ("report.html", "contact_sheet.png", "shards/"):
        page.print(f"  {ROOT / output / name}", markup=False)


def _make_output(folder: Path) -> bool:
    """Make the folder, empty; what an earlier quickstart left is removed, anything else is not touched."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        return False
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "logs").mkdir(parents=True)
    (folder / MARK).touch()
    return True


if __name__ == "__main__":
    sys.exit(main())
