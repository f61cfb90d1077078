"""Three stages over one decode, beside the sum of their models' times and one decode."""

from collections.abc import Iterator

from benchmarks.processing.embedding import vit_b_32
from benchmarks.processing.street import fresh_copy, in_this_process, tasks
from tarloom.process.batch import Batch, Decoder
from tarloom.process.embed.stage import EmbedStage
from tarloom.process.stage import Stage, StageWorker
from tarloom.process.stages.hash import HashStage
from tarloom.process.stages.quality import QualityStage
from tarloom.process.task import ShardTask
from tarloom.read.samples.batches import read_piece


def street(folder: str) -> Iterator[int]:
    """All three in one run: each picture is read and decoded once."""
    yield from in_this_process(folder, _stages(folder))


def apart(folder: str) -> Iterator[int]:
    """Each worker alone on batches that are decoded already, then the decoding alone: nothing overlaps, nothing is
    written."""
    stages = _stages(folder)
    with fresh_copy(folder) as place:
        workers = {name: stage.open() for name, stage in stages.items()}
        first, *others = tasks(place, stages)
        _alone(workers, first)
        yield 0
        yield sum(_alone(workers, task) for task in others)
        for worker in workers.values():
            worker.close()


def _alone(workers: dict[str, StageWorker], task: ShardTask) -> int:
    decoder = Decoder()
    batches = [Batch(rows, decoder) for rows in read_piece(task.piece, batch_rows=task.batch_rows)]
    for batch in batches:
        batch.pictures()
    for worker in workers.values():
        for batch in batches:
            worker(batch)
    decoder.close()
    return sum(map(len, batches))


def _stages(folder: str) -> dict[str, Stage]:
    return {"bench": EmbedStage(model=vit_b_32(folder)), "hash": HashStage(), "quality": QualityStage()}
