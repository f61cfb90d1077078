"""A pipeline made of any opener, and an engine that runs it: for the conformance suite."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Piped:
    """Each item, a number, is one portion, and the only step is this one's."""

    opener: Any

    calls = 1
    pool = None

    def __call__(self) -> Any:
        return self.opener()

    def pipeline(self) -> "Piped":
        return self

    @property
    def steps(self) -> "list[Piped]":
        return [self]

    def begin(self, items: list[int]) -> list[int]:
        return items

    def read(self, item: int) -> Iterator[bytes]:
        yield str(item).encode()

    def open(self) -> Any:
        worker = self.opener()
        return lambda portion: str(worker(int(bytes(portion)))).encode()

    def write(self, item: int, answer: Any) -> int:
        return int(bytes(answer))

    def finish(self, item: int, receipts: list[int]) -> int:
        (result,) = receipts
        return result


class Unreadable(Piped):
    """Fails as it is asked for portions, before there is one."""

    def read(self, item: int) -> Iterator[bytes]:
        raise OSError(f"no such tar: {item}")


class PipingEngine:
    """Makes pipelines of whatever it is given."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def map(self, opener: Any, items: Any, *, retries: int = 2) -> Any:
        return self._engine.map(Piped(opener), items, retries=retries)

    def close(self) -> None:
        self._engine.close()
