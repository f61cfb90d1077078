"""How a process that is asked to stop does so."""

import signal
from types import FrameType


def stop_as_by_ctrl_c() -> None:
    """SIGTERM ends what Ctrl-C ends, in the same way: schedulers and service managers ask with it. Main thread only."""
    signal.signal(signal.SIGTERM, _as_ctrl_c)


def _as_ctrl_c(_: int, frame: FrameType | None) -> None:
    """What is at work may have its own way to end: an event loop cancels what it runs, where an exception raised in the
    middle of its code would be lost."""
    ends = signal.getsignal(signal.SIGINT)
    if not callable(ends):
        raise KeyboardInterrupt
    ends(signal.SIGINT, frame)
