"""How many CPUs this process may use."""

import os


def cpu_share() -> int:
    """What its engine has given it (OMP_NUM_THREADS, as Ray, Spark, torchrun and our own engine set it), else those it
    may run on."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0))
