"""What a condition costs beside its answers, which test_where.py has."""

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore

import pyarrow as pa

from tarloom.read.columns import evaluate
from tarloom.read.view import Column, Where


def test_threads_that_wait_for_storage_prepare_no_more_statements_than_there_are_cpus(monkeypatch):
    prepared, prepare = [], evaluate._Evaluator.__init__
    monkeypatch.setattr(evaluate, "_turns", {os.getpid(): Semaphore(1)}.__getitem__)
    monkeypatch.setattr(evaluate._Evaluator, "__init__", lambda self, *a: prepared.append(a) or prepare(self, *a))
    width = Column(name="width", stage=None, field="width", type=pa.int32())
    where = Where(sql='("width" % 11 = 0)', columns=(width,))
    table = pa.table({"__key__": ["a"] * 12, "width": pa.array(range(12), pa.int32())})
    with ThreadPoolExecutor(16) as pool:
        found = [pool.submit(evaluate.passing_rows, where, table, place="") for _ in range(64)]
    assert {tuple(each.result().tolist()) for each in found} == {(0, 11)}
    assert prepared == [(where,)]
