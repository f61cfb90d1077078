"""An event loop to run coroutines on from anywhere: also from within another one, as in notebooks."""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

Result = TypeVar("Result")


class OwnLoop:
    """Runs one coroutine after the other, in this thread if it can. Ctrl-C ends them."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=_loop_factory())
        alone = not _is_inside_a_loop() and _ends_loops()
        self._thread = None if alone else ThreadPoolExecutor(1, thread_name_prefix="loop")

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """What the coroutine returns, or raises."""
        if self._thread is None:
            return self._runner.run(coroutine)
        task: Future[asyncio.Task[Result]] = Future()
        running = self._thread.submit(self._runner.run, _told(coroutine, task))
        try:
            return running.result()
        except BaseException:  # Ctrl-C ends this thread's wait, and must end the other's work
            if not running.done():
                task.result().get_loop().call_soon_threadsafe(task.result().cancel)
                wait([running])
            raise

    def close(self) -> None:
        """Cancel what is left on the loop."""
        if self._thread is None:
            self._runner.close()
        else:
            self._thread.submit(self._runner.close).result()
            self._thread.shutdown()


async def _told(coroutine: Coroutine[Any, Any, Result], task: "Future[asyncio.Task[Result]]") -> Result:
    """The coroutine, and by which task it is run."""
    current = asyncio.current_task()
    assert current is not None
    task.set_result(current)
    return await coroutine


def _is_inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _ends_loops() -> bool:
    """Whether Ctrl-C in this thread cancels what a loop runs: asyncio sees to it unless others, as Spark does, have put
    a handler of their own in place, whose exception would be lost in the middle of the loop's code."""
    if threading.current_thread() is not threading.main_thread():
        return True
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop, about twice as fast; Python's own where it is not to be had."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
