"""How many CPUs this process may use."""

import os

_part: int | None = None
"""What this process takes of its share, where it is one of several workers."""


def cpu_share() -> int:
    """What its engine has given it (OMP_NUM_THREADS, as Ray, Spark and our own engine set it), else those it may run
    on. torchrun gives 1, whatever the machine has: its ranks share those of the machine instead.
    """
    if _part is not None:
        return _part
    if ranks := _ranks():
        return max(1, len(os.sched_getaffinity(0)) // ranks)
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0))


def take_part_of_share(parts: int) -> None:
    """From here on this process has one of so many parts of its share, unless its engine has told it its own."""
    global _part
    if _part is None and ("OMP_NUM_THREADS" not in os.environ or _ranks()):  # torchrun's word is of the whole rank
        _part = max(1, cpu_share() // parts)


def _ranks() -> int:
    """The ranks of torchrun that share this machine; 0 where there are none, or more threads are given than its 1."""
    given, ranks = (os.environ.get(name, "") for name in ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE"))
    return int(ranks) if given in ("", "1") and ranks.isdecimal() else 0
