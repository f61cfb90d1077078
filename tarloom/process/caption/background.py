"""An event loop in a thread of its own, for backends that are asked from threads and wait asynchronously."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from tarloom.engines.base import WorkerBroken

Result = TypeVar("Result")


class Background:
    """Runs coroutines for whoever asks, from any thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What comes of it. Raises WorkerBroken where it is cancelled: somebody closed what it waits for."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except CancelledError:
            raise WorkerBroken(f"{self._name}: closed while it was asked") from None

    @property
    def stopped(self) -> bool:
        return self._loop.is_closed()

    def stop(self) -> None:
        """Nothing may be under way any more. Threads that looked up names end here, too."""
        self.do(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
