"""A plain loop: one thread does one thing after the other."""

from collections import Counter
from collections.abc import Iterator

from benchmarks.spreading.job import Answer, Network, answers, pieces, timed


def loop(folder: str, workers: int) -> Iterator[Answer | None]:
    """The number of workers is not heeded."""
    yield None
    seconds: Counter[str] = Counter()
    network = timed(seconds, "load", Network, folder)
    for piece in pieces(folder):
        yield from answers(piece, network, seconds)
