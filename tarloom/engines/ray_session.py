"""The Ray session of a run: one that is there is used and left alone, else one is started and stopped again."""

import contextlib
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator

from tarloom import errors
from tarloom.errors import EngineError, UsageError, missing_extra

try:
    import ray
except ImportError as error:
    raise missing_extra("ray", error) from error

CONNECT_SECONDS = 10.0


@contextlib.contextmanager
def ray_session(*, cpus: int, store_bytes: int, address: str | None = None) -> Iterator[None]:
    """Ray for as long as the block lasts: the caller's session, else a cluster's, else one of this machine.

    address: of a running cluster ("auto", "host:port", "ray://host:port"); else RAY_ADDRESS. cpus and store_bytes (of
    the object store) are for a session that is started here. Raises UsageError where no cluster answers, EngineError
    where none starts here.
    """
    started = not ray.is_initialized()
    if started:
        _connect(address or os.environ.get("RAY_ADDRESS"), cpus=cpus, store_bytes=store_bytes)
    try:
        yield
    finally:
        if started:
            ray.shutdown()


def session_address() -> str:
    """Of the cluster that this process is connected to, for other processes to join it."""
    address: str = ray.get_runtime_context().gcs_address
    return address


def some_node_has(*, cpus: float, gpus: float) -> bool:
    """Whether some node has, in all, what one worker needs: what several have together is of no use to it."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes)


def no_node_has(*, cpus: float, gpus: float) -> str:
    """What is said where none has."""
    return f"no node of the Ray cluster has {cpus:g} CPUs and {gpus:g} GPUs for one worker"


def first_line(error: BaseException) -> str:
    """What went wrong, without the remote traceback that Ray puts into its messages."""
    return errors.first_line(getattr(error, "cause", None) or error)


def _connect(address: str | None, *, cpus: int, store_bytes: int) -> None:
    if address:
        _check_listens(address)
    here = {"num_cpus": max(cpus, os.cpu_count() or 1), "object_store_memory": store_bytes, "include_dashboard": False}
    options = {"address": address} if address else {"address": "local", **here}
    try:
        with _own_signal_handler(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own notices about its future defaults
            ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # a plain one, too: where a machine is so busy that Ray's processes are late
        if address:
            said = f"no Ray cluster at {address}: {first_line(error)}; check --ray-address and RAY_ADDRESS"
            raise UsageError(said) from error
        raise EngineError(
            f"Ray did not start on this machine: {first_line(error)}; run the same command again when it is less busy, "
            "or see Ray's logs in /tmp/ray"
        ) from error


@contextlib.contextmanager
def _own_signal_handler() -> Iterator[None]:
    """Ray replaces the handler of SIGTERM by one that leaves without a word: not where the program has its own."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _check_listens(address: str) -> None:
    """Ray itself would knock for minutes where nobody listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto", "local": Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(
            f"no Ray cluster at {address}: {reason}; check --ray-address and RAY_ADDRESS, or give neither"
        ) from error
