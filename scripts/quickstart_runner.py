"""Runs the quickstart's programs: shows each command line, what it is at, and how long it took; keeps what it said."""

import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.progress import Progress

ROOT: Final = Path(__file__).resolve().parent.parent
"""The repository: programs are called from here."""


class StepFailed(Exception):
    """A program did not end well; what it said last."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A program to run, as one would type it."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Done:
    """A step that ended well."""

    step: Step
    seconds: float
    facts: dict[str, Any]
    """The JSON that the program ended with."""

    @property
    def rows(self) -> int | None:
        return self.facts.get("rows")


@dataclass(kw_only=True)
class Runner:
    """Runs steps, shows that they do, and ends what still runs when it is stopped."""

    logs: Path
    progress: Progress
    done: dict[str, Done] = field(default_factory=dict)
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, step: Step) -> None:
        """Run one program to its end. Raises StepFailed."""
        self.progress.console.print(f"[dim]$ {shlex.join(step.command)}[/dim]", soft_wrap=True)
        out, err = (self.logs / f"{_slug(step.name)}.{kind}" for kind in ("out", "err"))
        task = self.progress.add_task(step.name, tail="")
        started = time.monotonic()
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                executable(step.command), cwd=ROOT, stdout=stdout, stderr=stderr, env=environment()
            )
            self.running.append(process)
            while process.poll() is None:
                self.progress.update(task, tail=_last_line(err))
                time.sleep(0.1)
        seconds = time.monotonic() - started
        self.progress.remove_task(task)
        if process.returncode:
            said = "\n".join([*out.read_text().splitlines()[-10:], *err.read_text().splitlines()[-20:]])
            raise StepFailed(
                f"{step.name} ended with exit code {process.returncode}\n{said}\nAll it said: {out}, {err}"
            )
        done = Done(step=step, seconds=seconds, facts=json.loads(out.read_text().splitlines()[-1]))
        self.done[step.name] = done
        self.progress.console.print(f"[green]✓[/green] {step.name} [dim]{seconds:.1f} s[/dim]")

    def run_side_by_side(self, steps: Sequence[Step], *, lanes: int) -> None:
        """Run programs, `lanes` at a time. Raises StepFailed for the first that fails, and starts no more."""
        with ThreadPoolExecutor(lanes) as pool:
            waiting = [pool.submit(self.run, step) for step in steps]
            try:
                for future in waiting:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.stop()
                raise

    def stop(self) -> None:
        """End what still runs."""
        for process in self.running:
            if process.poll() is None:
                process.terminate()
        for process in self.running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)


def executable(command: Sequence[str]) -> list[str]:
    """The command with the program's place in this environment."""
    program = sys.executable if command[0] == "python" else str(Path(sys.executable).with_name(command[0]))
    return [program, *command[1:]]


def environment() -> dict[str, str]:
    """This process's, with this environment's programs first, and no look-ups on the Hugging Face hub."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def _last_line(path: Path) -> str:
    """The newest line of a log, short, for the progress line."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 400))
        lines = file.read().decode(errors="replace").replace("\r", "\n").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "".join(c for c in said if c.isprintable())[:70].replace("[", "(")


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name.lower())
