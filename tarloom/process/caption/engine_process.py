"""What is ours inside the process in which vLLM computes: it ends with the worker's, and leaves Ctrl-C to it."""

import atexit
import gc
import logging
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

from vllm.v1.executor.uniproc_executor import UniProcExecutor

LOOKS_SECONDS = 0.5
"""How often it looks whether its parent lives."""
PARENT = "TARLOOM_ENGINE_PARENT"
"""Environment variable by which the engine's process knows its worker's, whatever has become of that meanwhile."""


class CaptionExecutor(UniProcExecutor):  # type: ignore[misc]
    """Computes in the engine's own process, as one engine uses one device."""

    def _init_executor(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker is told too, and stops this process when it is done
        atexit.register(gc.freeze)  # nobody needs the interpreter to look at all of it once more before it ends
        # On CPU this logger repeats for every request that torch's thread count stays as it is.
        logging.getLogger("vllm.v1.worker.cpu_worker").setLevel(logging.ERROR)
        super()._init_executor()

    def _distributed_args(self) -> tuple[str, int, int]:
        where, rank, local_rank = super()._distributed_args()
        self._meeting_place = Path(where.removeprefix("file://"))
        return where, rank, local_rank

    def shutdown(self) -> None:
        """vLLM leaves the file at which the engine's processes, of which there is but one, would have met."""
        super().shutdown()
        self._meeting_place.unlink(missing_ok=True)


def _end_with_parent() -> None:
    """A worker that is killed cannot stop its engine, which would keep a GPU's memory for ever."""
    while os.getppid() == int(os.environ[PARENT]):
        time.sleep(LOOKS_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if multiprocessing.current_process().name == "EngineCore" and PARENT in os.environ:
    threading.Thread(target=_end_with_parent, daemon=True).start()  # now: the model is yet to be loaded
