"""How many CPUs this process may use."""

import os


def cpu_share() -> int:
    """What its engine has given it (OMP_NUM_THREADS, as Ray, Spark and our own engine set it), else those it may run
    on. torchrun gives 1, whatever the machine has: its ranks share those of the machine instead.
    """
    given, ranks = (os.environ.get(name, "") for name in ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE"))
    if given in ("", "1") and ranks.isdecimal() and int(ranks):
        return max(1, len(os.sched_getaffinity(0)) // int(ranks))
    return int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0))
