"""Openers and workers for the engines' conformance suite. They live in a module, so that they travel to processes."""

import gc
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tarloom.engines.base import WorkerBroken
from tarloom.errors import EngineError, UsageError


@dataclass(frozen=True)
class Squares:
    """Squares numbers; leaves one file per opening in `folder`."""

    folder: str

    def __call__(self) -> Callable[[int], int]:
        Path(self.folder, f"opened-{os.getpid()}-{time.monotonic_ns()}").touch()
        return _Square()


@dataclass(frozen=True)
class Collects:
    """Tells whether garbage is collected where it runs."""

    def __call__(self) -> Callable[[int], bool]:
        return lambda item: gc.isenabled()


class _Square:
    def __call__(self, item: int) -> int:
        time.sleep(0.01)
        return item * item


@dataclass(frozen=True)
class Stumbles:
    """Fails the first `times` tries of item 3 in the given manner; every try leaves a file."""

    folder: str
    manner: str
    times: int

    def __call__(self) -> Callable[[int], int]:
        return self._run

    def _run(self, item: int) -> int:
        tries = len(list(Path(self.folder).glob(f"try-{item}-*")))
        Path(self.folder, f"try-{item}-{tries}").touch()
        if item == 3 and tries < self.times:
            _fail(self.manner)
        return item


def _fail(manner: str) -> None:
    if manner == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if manner == "broken":
        raise WorkerBroken("the model's engine died")
    if manner == "usage":
        raise UsageError("no such model")
    if manner == "engine":
        raise EngineError("the disk is gone")
    raise ValueError("item 3\nis odd")


@dataclass(frozen=True)
class CannotOpen:
    """Fails while it opens."""

    manner: str

    def __call__(self) -> Callable[[int], int]:
        _fail(self.manner)
        raise AssertionError


@dataclass(frozen=True)
class Sleeps:
    """Writes its process id, then sleeps for longer per item than any test waits."""

    folder: str

    def __call__(self) -> Callable[[int], int]:
        return self._run

    def _run(self, item: int) -> int:
        Path(self.folder, f"pid-{os.getpid()}").touch()
        time.sleep(600)
        return item


@dataclass(frozen=True)
class Nodes:
    """Says on which node of a Ray cluster an item was done."""

    def __call__(self) -> Callable[[int], str]:
        return self._run

    def _run(self, item: int) -> str:
        import ray

        time.sleep(0.05)
        node: str = ray.get_runtime_context().get_node_id()
        return node


@dataclass(frozen=True)
class TellsItsGpus:
    """Says which GPUs it sees. One of the first two workers dies; no item ends before who replaces it has opened."""

    folder: str

    def __call__(self) -> Callable[[int], str]:
        Path(self.folder, f"{os.environ['CUDA_VISIBLE_DEVICES']}-opened-{os.getpid()}").touch()
        return self._run

    def _run(self, item: int) -> str:
        mark = Path(self.folder, "died")
        while len(list(Path(self.folder).glob("*-opened-*"))) < (3 if mark.exists() else 2):
            time.sleep(0.01)
        if item == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        return os.environ["CUDA_VISIBLE_DEVICES"]
