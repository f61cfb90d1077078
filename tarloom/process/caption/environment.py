"""What vLLM is told through the environment, before it is imported."""

import os

from tarloom.format.cpus import cpu_share


def prepare_environment() -> None:
    """Variables that vLLM reads as it is imported. Whatever the user has set stays."""
    wanted = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # on a CPU: the engine's process computes, instead of one more
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork would copy locks that threads of this process hold
        # On a CPU: threads that spin while they wait take it from who makes the input, but those that sleep at once
        # take long to wake. A few microseconds of spinning make a model that is asked for all it can do faster.
        "OMP_WAIT_POLICY": "passive",
        "GOMP_SPINCOUNT": "2000",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # stdout is for the run's summary
        "VLLM_NO_USAGE_STATS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    if cpu_share() < (os.cpu_count() or 1):
        # vLLM would bind its threads to all CPUs, and several workers would share the first few of them.
        wanted |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(cpu_share())}
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
