"""An engine that does the shard loop in pieces, in this process."""

import pickle
import random
from dataclasses import replace

from tarloom.engines.base import Outcome, Pool
from tarloom.engines.workers import Workers


class PiecesEngine:
    """All pieces in this process: all is read, then answered in any order and written. stop: after so many portions;
    apart: stages that live in workers of their own."""

    def __init__(self, *, seed: int = 0, stop: int | None = None, apart: tuple[str, ...] = ()) -> None:
        self._dice, self._stop = random.Random(seed), stop
        self._pools = {name: Pool(workers=Workers(least=1, most=1)) for name in apart}

    def map(self, opener, items, *, retries=2):
        pipeline, items = pickle.loads(pickle.dumps(replace(opener, pools=self._pools).pipeline())), list(items)
        begun = [pickle.loads(pickle.dumps(each)) for each in pipeline.begin(items)]
        portions = [(number, portion) for number, each in enumerate(begun) for portion in pipeline.read(each)]
        self._dice.shuffle(portions)
        workers = [step.open() for step in pipeline.steps]
        receipts = {number: [] for number in range(len(items))}
        for number, portion in portions[: self._stop]:
            for worker in workers:
                portion = worker(portion)
            receipts[number].append(pipeline.write(begun[number], portion))
        for worker in workers:
            worker.close()
        if self._stop is None:
            yield from (Outcome(item=item, result=pipeline.finish(item, receipts[n])) for n, item in enumerate(items))
