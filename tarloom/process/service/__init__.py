"""Batch inference as one job: samples in, one table of embeddings out, on local disk or in an object store.

loader, writer = UnifiedDataLoader("s3://bucket/laion"), UnifiedOutputWriter("s3://bucket/out")
job = BatchInferenceOrchestrator("openai/clip-vit-base-patch32", engine=LocalEngine(4))
summary = job.process_dataset(loader, writer, max_samples=100_000)
"""

from tarloom.process.service.loader import InputOptions, UnifiedDataLoader
from tarloom.process.service.orchestrator import BatchInferenceOrchestrator, BatchSummary, Phase
from tarloom.process.service.writer import UnifiedOutputWriter

__all__ = [
    "BatchInferenceOrchestrator",
    "BatchSummary",
    "InputOptions",
    "Phase",
    "UnifiedDataLoader",
    "UnifiedOutputWriter",
]
